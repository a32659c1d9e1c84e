/** Search by example in the viewer: a click, what is like it, what is not, keys, and the index that is made once. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { open, screenshot, settled } from "./page.mjs";
import { browser, server } from "./stage.mjs";

/** The north of Africa, in one window of the model. */
const AFRICA = "#model=world&task=water&view=4.00/21.90000/22.50000";

const DESERT = [12.5, 24];
const SEA = [18, 34.5];

/** Clicks a place, given in degrees. */
async function clickPlace(page, place) {
  const at = await page.evaluate((lonLat) => {
    const { map } = globalThis.viewer.mapView;
    const { x, y } = map.project(lonLat);
    const { left, top } = map.getCanvas().getBoundingClientRect();
    return [left + x, top + y];
  }, place);
  await page.mouse.click(...at);
}

/** Waits until the status says what `pattern` is, and returns it. */
async function told(page, pattern) {
  await page.waitForFunction((source) => new RegExp(source).test(document.getElementById("similar-status").textContent), pattern.source, { timeout: 60_000 });
  return page.locator("#similar-status").innerText();
}

/** Latitudes and longitudes of the best, as the list shows them. */
const best = (page) => page.locator("#similar-found .found > span:last-child").allInnerTexts();

const cellsOnMap = (page) => page.evaluate(() => globalThis.viewer.mapView.map.querySourceFeatures("similar").length);

const indexes = async () => (await (await fetch(`${server.address}/v1/indexes`)).json()).indexes;

test("a_click_shows_what_is_like_it", { timeout: 180_000 }, async () => {
  const { page, answers, troubles } = await open(browser, server.address, AFRICA);
  try {
    await settled(page);
    await page.locator("#teach-start").click();
    await page.locator("#similar-start").click();
    assert.ok(await page.locator("#teach-body").isHidden(), "one thing takes the clicks at a time");

    await clickPlace(page, DESERT);
    await told(page, /^Examples: 1 like this\. 30 cells shown/);
    const deserts = await best(page);
    assert.equal(deserts.length, 10);
    // No part of the sea or of the green south is among the best.
    for (const place of deserts) {
      const [, north, east] = /^([\d.]+)° N, ([\d.]+)° E$/.exec(place).map(Number);
      assert.ok(north > 12 && north < 33 && east < 36, place);
    }
    await settled(page);
    assert.ok((await cellsOnMap(page)) > 0);
    await screenshot(page, "search-found");
    const [made] = await indexes();
    assert.deepEqual([made.model, made.source, made.layer, made.cell_px], ["world", "world", "backbone.3", 32]);

    // With the shift key, an example of what is not meant: all that is more like the sea is gone.
    await page.keyboard.down("Shift");
    await clickPlace(page, SEA);
    await page.keyboard.up("Shift");
    await told(page, /^Examples: 1 like this, 1 unlike this\. 30 cells shown/);
    assert.deepEqual((await best(page)).toSorted(), deserts.toSorted());
    await page.keyboard.press("z");
    await told(page, /^Examples: 1 like this\. 30 cells/);
    assert.deepEqual(await best(page), deserts);
    await page.keyboard.press("y");
    await told(page, /1 unlike this\. 30 cells/);

    // By keyboard alone: a kind, the map, its centre; and a result becomes an example.
    await page.keyboard.press("1");
    await page.locator(".maplibregl-canvas").focus();
    await page.keyboard.press("Enter");
    await told(page, /^Examples: 2 like this, 1 unlike this\. 30 cells/);
    await page.getByLabel("Result 1 is like this").click();
    await told(page, /^Examples: 3 like this, 1 unlike this\. 30 cells/);
    await page.locator("#similar-count").fill("10");
    await told(page, /10 cells shown/);
    await page.locator("#similar-found .found").first().click();
    assert.deepEqual(await page.evaluate(() => globalThis.viewer.mapView.map.getFilter("similar-chosen")), ["==", ["get", "rank"], 1]);

    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#similar-body").isHidden());
    assert.equal(await page.evaluate(() => document.activeElement.id), "similar-start");
    await settled(page);
    assert.equal(await cellsOnMap(page), 0, "without a search, there are no cells on the map");

    // Another page finds the index.
    const other = await open(browser, server.address, AFRICA);
    await settled(other.page);
    await other.page.locator("#similar-start").click();
    await clickPlace(other.page, DESERT);
    await told(other.page, /^Examples: 1 like this\. 30 cells/);
    assert.deepEqual(await best(other.page), deserts);
    await other.page.locator("#similar-remove").click();
    await other.page.waitForFunction(() => document.getElementById("similar-index").hidden);
    await other.page.close();
    assert.deepEqual(await indexes(), []);
    const jobs = answers.filter(({ url }) => url.endsWith("/v1/indexes/area"));
    assert.deepEqual(jobs.map(({ status }) => status), [202], "the index is made once");
    assert.deepEqual([...troubles, ...other.troubles], []);
  } catch (error) {
    await screenshot(page, "failed-search");
    throw error;
  } finally {
    await page.close();
  }
});
