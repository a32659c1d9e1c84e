/** Teaching a model in the viewer: labels by mouse and keyboard, a fit, its map and scores, the next fit, and what goes wrong. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { open, screenshot, settled, shareOfChangedPixels } from "./page.mjs";
import { browser, server } from "./stage.mjs";

/** The north of Africa: a view in one window of the model, which one forward pass serves, with all the places below. */
const AFRICA = "#model=world&task=water&view=4.00/21.90000/22.50000";

/** Ten places of each class, in degrees. */
const PLACES = {
  water: [[16, 34], [18, 35], [20, 34], [22, 33.5], [24, 34.5], [26, 33], [28, 34.5], [30, 33], [38, 20], [36, 23]],
  desert: [[6, 28], [8, 21], [11, 30], [14, 24], [16, 19], [19, 28], [23, 22], [26, 27], [29, 20], [33, 23]],
  savanna: [[8, 8], [11, 9], [14, 8], [17, 7], [20, 8], [23, 9], [25, 7], [27, 8], [30, 9], [33, 8]],
};

/** A test with a page at Africa. It fails if the console has a warning or an error at the end, but for answers that it `expects`. */
const see = (name, check, expected = /^$/) =>
  test(name, { timeout: 180_000 }, async () => {
    const opened = await open(browser, server.address, AFRICA);
    try {
      await settled(opened.page);
      await opened.page.locator("#teach-start").click();
      await check(opened);
      assert.deepEqual(opened.troubles.filter((trouble) => !expected.test(trouble)), []);
    } catch (error) {
      await screenshot(opened.page, "failed");
      throw error;
    } finally {
      await opened.page.close();
    }
  });

/** Where a place is on the screen. */
const onScreen = (page, place) =>
  page.evaluate((lonLat) => {
    const { map } = globalThis.viewer.mapView;
    const { x, y } = map.project(lonLat);
    const { left, top } = map.getCanvas().getBoundingClientRect();
    return [left + x, top + y];
  }, place);

const clickPlace = async (page, place) => page.mouse.click(...(await onScreen(page, place)));

const status = (page) => page.locator("#teach-status").innerText();

const nameClass = async (page, number, name) => {
  await page.getByLabel(`Name of class ${number}`).fill(name);
  await page.keyboard.press("Enter");
};

/** Fits, waits until the map shows the model `id`, and returns the seconds that took. */
async function fit(page, id) {
  const start = performance.now();
  await page.locator("#teach-fit").click();
  await page.waitForFunction((model) => {
    const { map } = globalThis.viewer.mapView;
    return map.getSource("result")?.tiles?.[0].includes(`/${model}/`) && map.isSourceLoaded("result");
  }, id, { timeout: 120_000 });
  await settled(page);
  return (performance.now() - start) / 1000;
}

const modelIds = async () => {
  const { models } = await (await fetch(`${server.address}/v1/models?limit=1000`)).json();
  return models.map(({ id }) => id);
};

see("ten_clicks_a_class_become_a_map_with_scores", async ({ page, answers }) => {
  await page.locator("#class-add").click();
  for (const [index, name] of Object.keys(PLACES).entries()) await nameClass(page, index + 1, name);
  for (const [index, places] of Object.values(PLACES).entries()) {
    await page.keyboard.press(String(index + 1));
    for (const place of places) await clickPlace(page, place);
  }
  assert.match(await status(page), /^30 labels: 10 water, 10 desert, 10 savanna\./);

  await page.reload();
  await settled(page);
  await page.locator("#teach-start").click();
  assert.match(await status(page), /^30 labels: 10 water, 10 desert, 10 savanna\./);

  const seconds = await fit(page, "my-labels-1");
  await screenshot(page, "teach-fitted");
  assert.equal(await page.locator("#task").inputValue(), "classes");
  assert.deepEqual(await page.locator("#legend .category").allInnerTexts(), ["Desert", "Savanna", "Water"]);
  const legend = await page.locator("#legend .swatch").evaluateAll((chips) => chips.map((chip) => chip.style.background));
  const chosen = await page.locator("#classes input[type=color]").evaluateAll((inputs) => inputs.map(({ value }) => value));
  const rgb = (hex) => `rgb(${[1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)).join(", ")})`;
  assert.deepEqual(legend, [chosen[1], chosen[2], chosen[0]].map(rgb), "the map has the colours of the labels");
  const tiles = answers.filter(({ url }) => url.includes("/v1/tiles/my-labels-1/classes/"));
  assert.ok(tiles.length > 0 && tiles.every(({ status: code }) => code === 200));
  const scores = await page.locator("#scores").innerText();
  assert.match(scores, /Accuracy\s+(9\d|100) %/);
  assert.match(scores, /Learnt from 30 labels on world/);
  assert.match(await page.locator("#scores svg[role=img]").first().getAttribute("aria-label"), /Of 10 labels of desert, \d+ found/);

  // One label more, where the model is unsure: its features and all others' come from the caches, and the model before is replaced.
  await page.locator("#teach-suggest").click();
  const suggested = await page.waitForFunction(() => {
    const { map } = globalThis.viewer.mapView;
    const open = map.queryRenderedFeatures({ layers: ["labels-dots"] }).filter(({ properties }) => properties.isSuggested);
    return open.map(({ geometry }) => geometry.coordinates)[0];
  });
  await page.keyboard.press("1");
  await clickPlace(page, await suggested.jsonValue());
  assert.match(await status(page), /^31 labels: 11 water/);
  const again = await fit(page, "my-labels-2");
  await page.waitForFunction(() => document.getElementById("teach-fit").textContent.startsWith("Fit again"));
  assert.match(await page.locator("#scores").innerText(), /Learnt from 31 labels/);
  assert.ok(!(await modelIds()).includes("my-labels-1"), "the model before is removed");
  assert.deepEqual(await page.locator("#model option[value^=my-labels]").count(), 1);
  console.log(`from the last click to the map: ${seconds.toFixed(1)} s; with one label more: ${again.toFixed(1)} s`);

  const changed = await shareOfChangedPixels(page, async () => {
    await page.locator("#opacity").fill("0");
    await settled(page);
  });
  assert.ok(changed > 0.5, `the fitted classes colour only ${changed} of the map`);

  // Somebody else sees the scores, but cannot remove the model by accident.
  const other = await open(browser, server.address, "#model=my-labels-2");
  assert.match(await other.page.locator("#scores").innerText(), /Accuracy/);
  assert.equal(await other.page.getByText("Remove this model").count(), 0);
  await other.page.locator("#teach-start").click();
  assert.ok(await other.page.locator("#teach-fit").isDisabled());
  await other.page.close();

  await page.getByText("Remove this model").click();
  await page.waitForFunction(() => globalThis.viewer.store.state.model === "world");
  assert.ok(!(await modelIds()).includes("my-labels-2"));
  assert.ok(await page.locator("#scores").isHidden());
  await settled(page);
});

see("labels_are_set_moved_removed_and_taken_back", async ({ page }) => {
  const [first] = PLACES.desert;
  await clickPlace(page, first);
  await clickPlace(page, [30, 15]);
  assert.match(await status(page), /^2 labels: 2 class 1\. Next: class 1\./);

  // A drag moves a label, and the map stays.
  const before = await page.evaluate(() => globalThis.viewer.mapView.view);
  await page.mouse.move(...(await onScreen(page, first)));
  await page.mouse.down();
  await page.mouse.move(...(await onScreen(page, [10, 14])), { steps: 4 });
  await page.mouse.up();
  assert.deepEqual(await page.evaluate(() => globalThis.viewer.mapView.view), before);
  assert.match(await status(page), /^2 labels/);
  await clickPlace(page, [10, 14]);
  assert.match(await status(page), /^1 label:/, "a click on the moved dot removes it");

  await page.keyboard.press("z");
  assert.match(await status(page), /^2 labels/);
  await page.keyboard.press("y");
  assert.match(await status(page), /^1 label:/);
  for (let step = 0; step < 4; step += 1) await page.keyboard.press("Control+z");
  assert.match(await status(page), /^No labels yet/);
  await page.keyboard.press("Control+Shift+z");
  assert.match(await status(page), /^1 label:/);

  // By keyboard alone: a class, the map, its centre.
  await page.keyboard.press("2");
  await page.locator(".maplibregl-canvas").focus();
  await page.keyboard.press("ArrowDown");
  await page.waitForFunction(() => !globalThis.viewer.mapView.map.isMoving());
  await page.keyboard.press("Enter");
  assert.match(await status(page), /^2 labels: 1 class 1, 1 class 2\./);
  await screenshot(page, "teach-keyboard");

  // Letters in a name are no commands.
  await nameClass(page, 2, "zy1");
  assert.match(await status(page), /1 zy1\. Next: zy1\./);
  await nameClass(page, 1, "zy1");
  assert.match(await page.locator("#teach-problem").innerText(), /There is a class “zy1” already/);
  assert.equal(await page.getByLabel("Name of class 1").inputValue(), "class 1");

  // Labels go through a file unchanged; what is no label is refused.
  const download = page.waitForEvent("download");
  await page.locator("#teach-export").click();
  const file = readFileSync(await (await download).path(), "utf8");
  assert.equal(JSON.parse(file).features.length, 2);
  await page.locator("#teach-clear").click();
  await page.locator("#teach-file").setInputFiles({ name: "labels.geojson", mimeType: "application/geo+json", buffer: Buffer.from(file) });
  await page.waitForFunction(() => /^2 labels: 1 class 1, 1 zy1/.test(document.getElementById("teach-status").textContent));
  await page.locator("#teach-file").setInputFiles({ name: "labels.geojson", mimeType: "application/geo+json", buffer: Buffer.from('{"type": "Feature"}') });
  await page.waitForSelector("#teach-problem:not([hidden])");
  assert.match(await page.locator("#teach-problem").innerText(), /a GeoJSON FeatureCollection is needed/);

  await page.getByLabel("Remove class 1 and its labels").click();
  assert.match(await status(page), /^1 label: 1 zy1/);
  await page.keyboard.press("Escape");
  assert.ok(await page.locator("#teach-body").isHidden());
  assert.equal(await page.evaluate(() => document.activeElement.id), "teach-start");
  await clickPlace(page, [20, 12]);
  await page.locator("#teach-start").click();
  assert.match(await status(page), /^1 label/, "without labelling, a click sets nothing");
});

see("a_fit_that_is_not_possible_says_what_is_needed", async ({ page }) => {
  assert.ok(await page.locator("#teach-fit").isDisabled());
  for (const place of PLACES.water.slice(0, 3)) await clickPlace(page, place);
  await page.locator("#teach-fit").click();
  await page.waitForSelector("#teach-problem:not([hidden])");
  assert.match(await page.locator("#teach-problem").innerText(), /found 1 categories.*2 to 64 are needed/);
  await screenshot(page, "teach-problem");
  assert.match(await status(page), /^3 labels/);
  assert.ok(await page.locator("#teach-fit").isEnabled());
}, /status of 422/);
