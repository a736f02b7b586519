// Keeps the page's own files, so that it opens without a network.
const NAME = 'heartlore-1';
const FILES = ['./', 'app.mjs', 'heartlore.mjs', 'strap.mjs', 'files.mjs', 'style.css', 'heartlore.wasm', 'heartlore-plain.wasm'];

self.addEventListener('install', (event) => event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(FILES))));
self.addEventListener('activate', (event) => event.waitUntil(
  caches.keys().then((names) => Promise.all(names.filter((n) => n !== NAME).map((n) => caches.delete(n)))),
));
self.addEventListener('fetch', (event) => {
  if (event.request.method !== 'GET' || new URL(event.request.url).origin !== location.origin) return;
  event.respondWith(caches.match(event.request).then((kept) => kept ?? fetch(event.request)));
});
