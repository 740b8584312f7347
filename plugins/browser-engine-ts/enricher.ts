// Adds the engine of the visitor's browser. A browser that is not known has none.

import { defineEnricher, text } from "../sdk-js/sluice.js";

const ENGINES: Record<string, string[]> = {
  Blink: ["chrome", "chromium", "google chrome", "edge", "microsoft edge", "opera", "brave"],
  Gecko: ["firefox", "mozilla firefox", "tor browser"],
  WebKit: ["safari", "mobile safari"],
  Trident: ["internet explorer"],
};
const engineOf = new Map<string, string>(
  Object.entries(ENGINES).flatMap(([engine, browsers]) => browsers.map((browser) => [browser, engine] as [string, string])),
);

export const enricher = defineEnricher({
  name: "browser-engine",
  version: "1.0.0",
  // the columns it reads; the host passes no others
  reads: { browser: text("context.technical.browser") },
  adds: { engine: text },
  add(row) {
    return { engine: engineOf.get(row.browser?.toLowerCase() ?? "") ?? null };
  },
});
