/** Opening the viewer in a browser, and helpers that several tests use. */

import { mkdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

const HERE = import.meta.dirname;
const SHOTS = process.env.VIEWER_SCREENSHOTS ?? join(HERE, "screenshots");

/** A file of the demo bundle. */
export const demo = (name) => join(HERE, "..", "..", "static", "demo", name);

/** A fixture of these tests. */
export const fixture = (name) => join(HERE, "..", "fixtures", "viewer", name);

/** A warning that software WebGL prints for every screenshot. */
const DRIVER_NOISE = /GPU stall due to ReadPixels/;

/** Opens the viewer at a fragment, after `prepare`. `answers` collects the responses, `troubles` the warnings and errors of the console. */
export async function open(browser, address, fragment = "", { prepare, ...options } = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, ...options });
  await prepare?.(page);
  const answers = [];
  const troubles = [];
  page.on("response", (response) => answers.push({ status: response.status(), url: response.url() }));
  page.on("console", (message) => {
    const isTrouble = message.type() === "error" || message.type() === "warning";
    if (isTrouble && !DRIVER_NOISE.test(message.text())) troubles.push(message.text());
  });
  page.on("pageerror", (error) => troubles.push(String(error)));
  await page.goto(`${address}/${fragment}`);
  await page.waitForFunction(() => !document.body.classList.contains("starting"));
  return { page, answers, troubles };
}

/** Waits until no tile is loading and the map has drawn everything. */
export async function settled(page) {
  await page.waitForFunction(() => {
    const { traffic, mapView } = globalThis.viewer;
    return traffic.pending === 0 && !mapView.map.isMoving() && mapView.map.areTilesLoaded();
  }, undefined, { timeout: 60_000 });
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}

/** Drops a file on the page, as a user would from a file manager. */
export async function drop(page, path, { bytes = readFileSync(path), name = basename(path) } = {}) {
  const data = await page.evaluateHandle(
    ([base64, fileName]) => {
      const content = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([content], fileName));
      return transfer;
    },
    [bytes.toString("base64"), name],
  );
  for (const event of ["dragenter", "dragover", "drop"]) await page.dispatchEvent("body", event, { dataTransfer: data });
}

/** Saves a screenshot of the page. */
export async function screenshot(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

/** The share of the map's pixels that `change` alters visibly. */
export async function shareOfChangedPixels(page, change) {
  const shoot = async () => (await page.locator("#map canvas.maplibregl-canvas").screenshot()).toString("base64");
  const before = await shoot();
  await change();
  const after = await shoot();
  return page.evaluate(
    async (images) => {
      const pixels = async (base64) => {
        const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${base64}`)).blob());
        const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
        context.drawImage(bitmap, 0, 0);
        return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
      };
      const [a, b] = await Promise.all(images.map(pixels));
      let changed = 0;
      for (let i = 0; i < a.length; i += 4)
        if (Math.abs(a[i] - b[i]) + Math.abs(a[i + 1] - b[i + 1]) + Math.abs(a[i + 2] - b[i + 2]) > 24) changed += 1;
      return changed / (a.length / 4);
    },
    [before, after],
  );
}
