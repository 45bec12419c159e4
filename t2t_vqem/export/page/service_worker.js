// Keeps the files of the page, so that it works without a network after the first visit. files.js
// lists them, with a hash of all: where the folder was replaced, browsers load the new files.

importScripts("files.js");

const PREFIX = `t2t-vqem ${self.registration.scope} `; // one site can hold several such folders
const CACHE = PREFIX + self.FOLDER.version;
const address = (path) => self.registration.scope + path.split("/").map(encodeURIComponent).join("/");
const FILES = new Set([...self.FOLDER.files, "files.js"].map(address));

async function keep() {
  const cache = await caches.open(CACHE);
  await cache.addAll([...FILES].map((file) => new Request(file, { cache: "no-cache" })));
  await self.skipWaiting();
}

async function clean() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function answer(request, file) {
  const cache = await caches.open(CACHE);
  return (await cache.match(file)) ?? fetch(request);
}

self.addEventListener("install", (event) => event.waitUntil(keep()));
self.addEventListener("activate", (event) => event.waitUntil(clean()));
self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  const plain = url.origin + url.pathname;
  const file = plain === self.registration.scope ? address("index.html") : plain;
  if (event.request.method === "GET" && FILES.has(file)) event.respondWith(answer(event.request, file));
});
