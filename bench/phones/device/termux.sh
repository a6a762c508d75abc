#!/data/data/com.termux/files/usr/bin/sh
# Run inside of Termux on the phone, in this folder: builds llama.cpp once, then measures the model that lies here.
set -eu
PROMPT=@PROMPT@
DECODE=@DECODE@
THREADS=@THREADS@
REPETITIONS=${REPETITIONS:-5}
HERE=$(cd "$(dirname "$0")" && pwd)
BUILD=${LLAMA_CPP:-$HOME/llama.cpp}
BENCH=$BUILD/build/bin/llama-bench

if [ -e "$HERE/results.jsonl" ]; then
  echo "$HERE/results.jsonl exists already; move it away first. Nothing was run." >&2
  exit 2
fi
if [ ! -x "$BENCH" ]; then
  command -v cmake >/dev/null || pkg install -y git cmake clang
  [ -d "$BUILD" ] || git clone --depth 1 https://github.com/ggml-org/llama.cpp "$BUILD"
  cmake -S "$BUILD" -B "$BUILD/build" -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DBUILD_SHARED_LIBS=OFF
  cmake --build "$BUILD/build" --target llama-bench -j "$THREADS"
fi
state() { # needs the Termux:API app; without it, only what /sys tells
  { termux-battery-status 2>/dev/null || true
    for zone in /sys/class/thermal/thermal_zone*; do
      printf '%s %s\n' "$(cat "$zone/type" 2>/dev/null)" "$(cat "$zone/temp" 2>/dev/null)"
    done; } > "$HERE/$1" 2>/dev/null || true
}
command -v termux-wake-lock >/dev/null && termux-wake-lock
state before.txt
"$BENCH" -m "$HERE/model.gguf" -p $PROMPT -n $DECODE -t $THREADS -r $REPETITIONS -o jsonl > "$HERE/results.part"
mv "$HERE/results.part" "$HERE/results.jsonl"
state after.txt
command -v termux-wake-unlock >/dev/null && termux-wake-unlock
echo "Results: $HERE/results.jsonl"
