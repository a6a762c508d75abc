// Keeps the page for offline use. The host is asked first; what it sent last is the answer when it is away.

const CACHE = "empathy-edge-phone-1";
const FILES = [
  "./", "page.css", "icon.svg", "main.js", "chat.js", "crisis.js", "bench.js", "model.js", "store.js",
  "wllama.js", "single.wasm", "multi.wasm", "LICENCE", "plan.json",
];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(self.clients.claim());
});

async function hostFirst(request) {
  const cache = await caches.open(CACHE);
  try {
    const answer = await fetch(request);
    if (answer.ok) await cache.put(request, answer.clone());
    return answer;
  } catch (error) {
    const kept = await cache.match(request, { ignoreVary: true });
    if (kept) return kept;
    throw error;
  }
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  // The model's parts are in IndexedDB, and results are never kept.
  const isModel = new URL(request.url).pathname.includes("/model/");
  if (request.method !== "GET" || request.headers.has("range") || isModel) return;
  event.respondWith(hostFirst(request));
});
