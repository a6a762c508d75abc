#!/bin/sh
# Measures the model in this folder with llama-bench on the Android phone that adb sees, and brings the results back.
# Everything on the phone stays below one folder, which is removed at the end. Usage: ./run.sh   (Ctrl-C cleans up too)
set -eu
PROMPT=@PROMPT@
DECODE=@DECODE@
THREADS=@THREADS@
REPETITIONS=${REPETITIONS:-5}
ADB=${ADB:-adb}
PHONE=/data/local/tmp/empathy-edge-bench
HERE=$(cd "$(dirname "$0")" && pwd)
OUT=$HERE/results

command -v "$ADB" >/dev/null || { echo "adb is missing: install Android's platform-tools." >&2; exit 3; }
[ -x "$HERE/llama-bench" ] || { echo "$HERE/llama-bench is missing: see README.md, 'Building llama-bench'." >&2; exit 3; }
COUNT=$("$ADB" devices | awk 'NR > 1 && $2 == "device"' | wc -l)
if [ "$COUNT" -ne 1 ] && [ -z "${ANDROID_SERIAL:-}" ]; then
  echo "adb sees $COUNT phones that are ready; plug in one and allow USB debugging, or set ANDROID_SERIAL." >&2
  exit 3
fi
if [ -e "$OUT/results.jsonl" ]; then
  echo "$OUT/results.jsonl exists already; move it away first. Nothing was run." >&2
  exit 2
fi
mkdir -p "$OUT"

state() { # thermal status, temperatures and battery, as the phone tells them
  "$ADB" shell "dumpsys thermalservice; dumpsys battery" > "$OUT/$1" 2>&1 || true
}
clean() { "$ADB" shell "rm -rf $PHONE" >/dev/null 2>&1 || true; }
trap clean EXIT INT TERM

"$ADB" shell "getprop ro.product.model; getprop ro.soc.model; getprop ro.build.version.release; cat /proc/cpuinfo; cat /proc/meminfo" > "$OUT/phone.txt" 2>&1 || true
"$ADB" shell "rm -rf $PHONE && mkdir -p $PHONE"
"$ADB" push "$HERE/llama-bench" "$PHONE/llama-bench"
"$ADB" push "$HERE/model.gguf" "$PHONE/model.gguf"
"$ADB" shell "chmod 755 $PHONE/llama-bench"
state before.txt
"$ADB" shell "cd $PHONE && ./llama-bench -m model.gguf -p $PROMPT -n $DECODE -t $THREADS -r $REPETITIONS -o jsonl > results.jsonl 2> errors.txt" || {
  "$ADB" shell "tail -5 $PHONE/errors.txt" >&2
  echo "llama-bench failed on the phone; nothing was kept." >&2
  exit 1
}
state after.txt
"$ADB" pull "$PHONE/results.jsonl" "$OUT/results.jsonl"
echo "Results: $OUT/results.jsonl"
echo "Read them in: empathy-edge bench ingest $OUT/results.jsonl --artifact $HERE/model.gguf --device DEVICE --out DEVICE.yaml"
