// The model's bytes in the browser: fetched in blocks by Range requests, each kept at once in IndexedDB, so that
// a lost connection costs at most one block and a reload none.

const BLOCK = 2 * 1024 * 1024;
const TRIES = 4;

let memory = new Map(); // where IndexedDB is switched off (some private windows)
let database = null;
let isKept = true;

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open("empathy-edge", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("blocks");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("blocked"));
  });
}

function asPromise(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function blocks(mode) {
  database ??= await open();
  return database.transaction("blocks", mode).objectStore("blocks");
}

async function keep(key, blob) {
  if (isKept) {
    try {
      await asPromise((await blocks("readwrite")).put(blob, key));
      return;
    } catch {
      isKept = false; // full, or not allowed: the rest stays in memory
    }
  }
  memory.set(key, blob);
}

async function kept(key) {
  if (memory.has(key)) return memory.get(key);
  try {
    return (await asPromise((await blocks("readonly")).get(key))) ?? null;
  } catch {
    isKept = false;
    return null;
  }
}

/** Whether everything that was fetched will be here after a reload. */
export function survivesReload() {
  return isKept;
}

/** Whether there is something that can be deleted. */
export async function keepsSomething() {
  if (memory.size) return true;
  try {
    return (await asPromise((await blocks("readonly")).count())) > 0;
  } catch {
    return false;
  }
}

/** Delete all models. */
export async function forget() {
  memory = new Map();
  try {
    await asPromise((await blocks("readwrite")).clear());
  } catch {
    // nothing was kept
  }
}

/** Delete what belongs to other models, so that a phone does not fill up. */
async function forgetOthers(model) {
  try {
    const keys = await asPromise((await blocks("readonly")).getAllKeys());
    const store = await blocks("readwrite");
    for (const key of keys) if (!String(key).startsWith(model)) store.delete(key);
  } catch {
    // nothing was kept
  }
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

async function fetchBlock(url, begin, end) {
  for (let number = 1; ; number++) {
    try {
      const answer = await fetch(url, { headers: { Range: `bytes=${begin}-${end - 1}` }, cache: "no-store" });
      if (answer.status !== 206) throw new Error(`the host answered ${answer.status}`);
      const blob = await answer.blob();
      if (blob.size !== end - begin) throw new Error("the connection ended early");
      return blob;
    } catch (error) {
      if (number === TRIES) throw error;
      await pause(0.5 * 2 ** number);
    }
  }
}

/**
 * The model's parts as Blobs.
 * @param plan the host's plan
 * @param progress called with the share that is here
 * @returns {blobs, fetched}: fetched is the number of bytes that came over the network
 */
export async function modelParts(plan, progress) {
  const model = `${plan.model_sha256}/${plan.part_bytes.length}/`;
  await forgetOthers(model);
  navigator.storage?.persist?.();
  let here = 0;
  let fetched = 0;
  const parts = [];
  for (const [number, size] of plan.part_bytes.entries()) {
    const pieces = [];
    for (let begin = 0; begin < size; begin += BLOCK) {
      const end = Math.min(begin + BLOCK, size);
      const key = `${model}${number}/${begin}`;
      let blob = await kept(key);
      if (blob?.size !== end - begin) {
        blob = await fetchBlock(`model/${number}`, begin, end);
        await keep(key, blob);
        fetched += blob.size;
      }
      pieces.push(blob);
      here += blob.size;
      progress(here / plan.part_bytes.reduce((sum, bytes) => sum + bytes, 0));
    }
    parts.push(new Blob(pieces));
  }
  return { blobs: parts, fetched };
}
