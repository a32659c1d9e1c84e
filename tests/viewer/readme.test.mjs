/** The MapLibre page of README.md, as somebody copies it: on another origin, with the library from the server. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { screenshot } from "./page.mjs";
import { browser, server } from "./stage.mjs";

const ROOT = join(import.meta.dirname, "..", "..");

/** The address that the README writes; the page runs against the server's own. */
const WRITTEN_ADDRESS = "http://127.0.0.1:8080";

/** Where the copied page seems to be: a host that does not exist, so that only what the test serves is there. */
const PAGE = "https://somebody.example/map.html";

/** The page in the README, with the address of the test's server. */
function readmePage() {
  const readme = readFileSync(join(ROOT, "README.md"), "utf8");
  const pages = [...readme.matchAll(/^```html\n([^]*?)^```$/gm)].map(([, code]) => code);
  assert.equal(pages.length, 1, "README.md has one page in HTML");
  return pages[0].replaceAll(WRITTEN_ADDRESS, server.address);
}

/** The share of the map in the strong yellow of coasts, which neither the imagery nor an empty map has. */
async function shareOfYellow(page) {
  const canvas = page.locator("canvas.maplibregl-canvas");
  await canvas.waitFor();
  return page.evaluate(async (base64) => {
    const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${base64}`)).blob());
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4) if (data[i] > 220 && data[i + 1] > 160 && data[i + 2] < 60) count += 1;
    return count / (data.length / 4);
  }, (await canvas.screenshot()).toString("base64"));
}

test("the_map_of_the_readme_shows_imagery_and_coast_on_a_page_of_another_origin", async () => {
  // Chromium asks the user before a public page may reach this machine; a server with a public name needs no such permission.
  const context = await browser.newContext({ viewport: { width: 900, height: 600 }, permissions: ["local-network-access"] });
  const page = await context.newPage();
  const troubles = [];
  /** Requests of the page to the server: status and address. */
  const tiles = [];
  page.on("console", (message) => message.type() === "error" && troubles.push(message.text()));
  page.on("pageerror", (error) => troubles.push(String(error)));
  page.on("response", (response) => response.url().startsWith(`${server.address}/v1/`) && tiles.push({ status: response.status(), url: response.url() }));
  await page.route(PAGE, (route) => route.fulfill({ contentType: "text/html", body: readmePage() }));
  await page.goto(PAGE);
  const deadline = Date.now() + 60_000;
  let yellow = 0;
  while (yellow < 0.02 && troubles.length === 0 && Date.now() < deadline) yellow = await shareOfYellow(page);
  await screenshot(page, "readme-maplibre");
  assert.deepEqual(troubles, []);
  assert.deepEqual(tiles.filter(({ status }) => status !== 200), []);
  assert.ok(tiles.some(({ url }) => url.includes("/sources/world/tiles/")), "no tile of the imagery was asked for");
  assert.ok(yellow >= 0.02, `only ${yellow} of the map has the colour of the coast`);
  await context.close();
});
