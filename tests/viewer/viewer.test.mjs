/** The viewer with the real server: what a user sees and does. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { demo, drop, fixture, open, screenshot, settled, shareOfChangedPixels } from "./page.mjs";
import { browser, server } from "./stage.mjs";

/** A test with its own page. It fails if the console has a warning or an error at the end. */
const see = (name, fragment, check, options) =>
  test(name, async () => {
    const opened = await open(browser, server.address, fragment, options);
    try {
      await check(opened);
      assert.deepEqual(opened.troubles, []);
    } catch (error) {
      await screenshot(opened.page, "failed");
      throw error;
    } finally {
      await opened.page.close();
    }
  });

/** Gives the world model a classification task, which no demo model has. */
async function fakeClassification(page) {
  await page.route("**/v1/models", async (route) => {
    const response = await route.fetch();
    const body = await response.json();
    const world = body.models.find(({ id }) => id === "world");
    world.tasks.push({ name: "scene", type: "classification", categories: ["harbour", "field"], formats: ["json", "geojson"] });
    await route.fulfill({ response, json: body });
  });
  await page.route("**/v1/tiles/world/scene/**", (route) => {
    const url = route.request().url();
    if (url.includes("tilejson")) return route.fulfill({ json: { tilejson: "3.0.0", tiles: [], minzoom: 1, maxzoom: 5 } });
    const [, z, x, y] = /scene\/(\d+)\/(\d+)\/(\d+)/.exec(url).map(Number);
    const lon = (column) => (column / 2 ** z) * 360 - 180;
    const lat = (row) => (Math.atan(Math.sinh(Math.PI * (1 - (2 * row) / 2 ** z))) * 180) / Math.PI;
    const corner = (dx, dy) => [lon(x + dx), lat(y + dy)];
    const geometry = { type: "Polygon", coordinates: [[[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]].map(([dx, dy]) => corner(dx, dy))] };
    const properties = { category: "harbour", category_id: 0, score: 0.8 };
    return route.fulfill({ json: { type: "FeatureCollection", features: [{ type: "Feature", geometry, properties }] } });
  });
}

const tiles = (answers, part) => answers.filter(({ url }) => url.includes(part) && /\/\d+\/\d+\/\d+\.\w+/.test(url));

/** Clicks the best object in view and returns what its popup says. */
async function clickBestObject(page) {
  const point = await page.evaluate(() => {
    const { map } = globalThis.viewer.mapView;
    const { width, height } = map.getCanvas().getBoundingClientRect();
    const features = map.queryRenderedFeatures().filter(({ layer }) => layer.id.endsWith("-fill"));
    const middle = ({ geometry }) => {
      const ring = geometry.type === "MultiPolygon" ? geometry.coordinates[0][0] : geometry.coordinates[0];
      const mean = (axis) => ring.reduce((sum, position) => sum + position[axis], 0) / ring.length;
      return map.project([mean(0), mean(1)]);
    };
    return features.map(middle).find(({ x, y }) => x > 150 && y > 150 && x < width - 150 && y < height - 150);
  });
  assert.ok(point, "no object is drawn in the middle of the map");
  await page.locator("#map").click({ position: point });
  await page.waitForSelector(".maplibregl-popup .feature");
  return page.locator(".maplibregl-popup").innerText();
}

see("the_page_opens_with_imagery_and_a_mask_over_it", "", async ({ page, answers }) => {
  await settled(page);
  await screenshot(page, "world-coast");
  assert.equal(await page.locator("#model").inputValue(), "world");
  assert.equal(await page.locator("#task").inputValue(), "coast");
  for (const part of ["/v1/sources/world/tiles/", "/v1/tiles/world/coast/"]) {
    const own = tiles(answers, part);
    assert.ok(own.length > 0, `no tiles of ${part}`);
    assert.deepEqual(own.filter(({ status }) => status !== 200), []);
  }
  const changed = await shareOfChangedPixels(page, async () => {
    await page.locator("#opacity").fill("0");
    await settled(page);
  });
  assert.ok(changed > 0.005, `the mask colours only ${changed} of the map`);
});

see("the_page_asks_no_other_host", "", async ({ page, answers }) => {
  await settled(page);
  const foreign = answers.filter(({ url }) => !url.startsWith(server.address) && !/^(data|blob):/.test(url));
  assert.deepEqual(foreign, []);
});

see("the_address_brings_back_task_options_and_place", "#model=world&task=water&opacity=0.5&hidden=land&view=4.00/40.00000/15.00000", async ({ page, answers }) => {
  await settled(page);
  await screenshot(page, "world-water");
  assert.equal(await page.locator("#task").inputValue(), "water");
  assert.equal(await page.locator("#opacity").inputValue(), "0.5");
  assert.ok(tiles(answers, "/v1/tiles/world/water/").every(({ url }) => url.includes("categories=water")));
  const view = await page.evaluate(() => globalThis.viewer.mapView.view);
  assert.ok(Math.abs(view.lat - 40) < 1e-3 && Math.abs(view.lon - 15) < 1e-3 && view.zoom === 4);
  await page.locator("#task").selectOption("elevation");
  await settled(page);
  await page.waitForFunction(() => location.hash.includes("task=elevation"));
  await screenshot(page, "world-elevation");
});

see("a_colour_map_and_a_probability_can_be_chosen", "#model=world&task=coast", async ({ page, answers }) => {
  await page.locator("#look label", { hasText: "Probability" }).click();
  await page.locator("#colormap").selectOption("inferno");
  await settled(page);
  await screenshot(page, "world-probability");
  const own = tiles(answers, "render=probability").filter(({ url }) => url.includes("colormap=inferno"));
  assert.ok(own.length > 0);
  assert.deepEqual(own.filter(({ status }) => status !== 200), []);
});

see("an_object_is_drawn_and_its_popup_opens", "#model=trees", async ({ page, answers }) => {
  await settled(page);
  assert.equal(await page.locator("#source").inputValue(), "trees");
  assert.ok(tiles(answers, ".mvt").some(({ status }) => status === 200));
  const text = await clickBestObject(page);
  await screenshot(page, "trees-popup");
  assert.match(text, /Tree/);
  assert.match(text, /\d+\.\d %/);
});

see("the_threshold_hides_weak_objects_without_asking_again", "#model=trees", async ({ page, answers }) => {
  await settled(page);
  const count = () => page.evaluate(() => globalThis.viewer.mapView.map.queryRenderedFeatures().length);
  const all = await count();
  const asked = tiles(answers, ".mvt").length;
  await page.locator("#threshold").fill("0.9");
  await page.waitForFunction(() => globalThis.viewer.store.state.threshold === 0.9);
  await settled(page);
  const few = await count();
  assert.ok(few < all, `${few} of ${all} features pass a threshold of 0.9`);
  assert.equal(tiles(answers, ".mvt").length, asked);
});

see("choosing_the_tree_model_flies_to_its_imagery", "", async ({ page }) => {
  await settled(page);
  await page.locator("#model").selectOption("trees");
  await page.waitForFunction(() => location.hash.includes("source=trees"));
  // The flight begins only once the descriptions of the tiles have come.
  await page.waitForFunction(() => globalThis.viewer.mapView.view.zoom > 16, undefined, { timeout: 60_000 });
  await settled(page);
  const { zoom, lon } = await page.evaluate(() => globalThis.viewer.mapView.view);
  assert.ok(zoom > 16 && Math.abs(lon + 110.47) < 0.01, `the map is at ${zoom}, ${lon}`);
});

see("a_dropped_geotiff_shows_its_objects_at_its_place", "#model=trees", async ({ page }) => {
  await settled(page);
  await drop(page, demo("trees_osbs.tif"));
  await page.waitForSelector(".card.done");
  await settled(page);
  await screenshot(page, "dropped-geotiff");
  assert.match(await page.locator(".card").innerText(), /[1-9]\d* objects/);
  const { lon, lat } = await page.evaluate(() => globalThis.viewer.mapView.view);
  assert.ok(Math.abs(lon + 81.98) < 0.05 && Math.abs(lat - 29.69) < 0.05, `the map is at ${lon}, ${lat}`);
  assert.match(await clickBestObject(page), /Tree/);
  await page.locator(".card button", { hasText: "Add as imagery" }).click();
  await page.waitForFunction(() => globalThis.viewer.store.state.source);
  await settled(page);
  await screenshot(page, "dropped-geotiff-as-imagery");
  assert.match(await page.locator("#source option:checked").innerText(), /trees_osbs/);
  await page.locator(".card button", { hasText: "Remove" }).click();
  assert.equal(await page.locator(".card").count(), 0);
});

see("a_dropped_geotiff_shows_its_values_as_an_image_at_its_place", "#model=world&task=elevation", async ({ page }) => {
  await settled(page);
  await drop(page, demo("trees_osbs.tif"));
  await page.waitForSelector(".card.done");
  await settled(page);
  const { lon, lat, zoom } = await page.evaluate(() => globalThis.viewer.mapView.view);
  assert.ok(Math.abs(lon + 81.98) < 0.05 && Math.abs(lat - 29.69) < 0.05 && zoom > 15, `the map is at ${lon}, ${lat}, ${zoom}`);
  const changed = await shareOfChangedPixels(page, async () => {
    await page.locator("#opacity").fill("0");
    await settled(page);
  });
  assert.ok(changed > 0.05, `the image covers only ${changed} of the map`);
});

see("a_dropped_picture_without_a_place_opens_beside_the_map", "#model=trees", async ({ page }) => {
  await settled(page);
  await drop(page, fixture("trees.jpg"));
  await page.waitForSelector("#pixels:not([hidden])");
  await screenshot(page, "dropped-picture");
  assert.match(await page.locator("#pixels-size").innerText(), /not georeferenced/);
  assert.match(await page.locator(".card").innerText(), /\d+ object/);
  await page.keyboard.press("Escape");
  assert.ok(await page.locator("#pixels").isHidden());
});

test("a_broken_file_says_what_is_wrong", async () => {
  const { page } = await open(browser, server.address, "#model=trees");
  await settled(page);
  await drop(page, "", { bytes: Buffer.from("II*\0 this is no raster"), name: "broken.tif" });
  await page.waitForSelector(".card.failed");
  await screenshot(page, "broken-file");
  const text = await page.locator(".card.failed").innerText();
  assert.match(text, /broken\.tif/);
  assert.ok(text.length > 40, `the card only says: ${text}`);
  await page.close();
});

test("failed_tiles_are_counted_and_can_be_asked_for_again", async () => {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  const problem = { title: "Internal Server Error", status: 500, detail: "the forward pass failed" };
  await page.route("**/v1/tiles/world/coast/*/*/*.png*", (route) =>
    route.fulfill({ status: 500, contentType: "application/problem+json", body: JSON.stringify(problem) }),
  );
  await page.goto(`${server.address}/`);
  await page.waitForSelector("#failures:not([hidden])");
  await settled(page);
  await screenshot(page, "failed-tiles");
  assert.match(await page.locator("#failures").innerText(), /\d+ tiles? failed: the forward pass failed/);
  await page.unroute("**/v1/tiles/world/coast/*/*/*.png*");
  await page.locator("#retry").click();
  await page.waitForSelector("#failures", { state: "hidden" });
  await settled(page);
  assert.ok(await page.locator("#failures").isHidden());
  await page.close();
});

test("tiles_wait_while_the_server_is_loading", async () => {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
  let refusals = 4;
  await page.route("**/v1/tiles/world/coast/*/*/*.png*", (route) => {
    refusals -= 1;
    if (refusals < 0) return route.continue();
    const body = JSON.stringify({ title: "Service Unavailable", status: 503, detail: "the weights are loading" });
    return route.fulfill({ status: 503, headers: { "Retry-After": "1" }, contentType: "application/problem+json", body });
  });
  await page.goto(`${server.address}/`);
  await page.waitForFunction(() => document.getElementById("activity").textContent.includes("the weights are loading"));
  await settled(page);
  assert.ok(await page.locator("#failures").isHidden());
  await page.close();
});

test("a_server_that_wants_a_key_is_given_one", async () => {
  const page = await browser.newPage();
  await page.route("**/v1/**", (route) => {
    if (route.request().headers()["x-api-key"] === "correct-horse") return route.continue();
    const body = JSON.stringify({ title: "Unauthorized", status: 401, detail: "an API key is needed" });
    return route.fulfill({ status: 401, contentType: "application/problem+json", body });
  });
  await page.goto(`${server.address}/`);
  await page.locator("#key").fill("correct-horse");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("activity")?.textContent === "Ready");
  await settled(page);
  assert.ok(await page.locator("#fatal").isHidden());
  await page.close();
});

see("a_classification_colours_the_footprints_of_tiles", "#model=world&task=scene", async ({ page }) => {
  await settled(page);
  await page.waitForFunction(() => globalThis.viewer.mapView.map.queryRenderedFeatures().length > 0);
  assert.match(await clickBestObject(page), /Harbour/);
}, { prepare: fakeClassification });

test("a_server_without_its_catalogue_is_reported", async () => {
  const page = await browser.newPage();
  await page.route("**/v1/models", (route) => route.abort());
  await page.goto(`${server.address}/`);
  await page.waitForSelector("#fatal:not([hidden])");
  assert.match(await page.locator("#fatal").innerText(), /cannot be reached/);
  await page.close();
});

test("the_copied_command_answers_with_the_tile_that_is_shown", async () => {
  const { page } = await open(browser, server.address, "#model=world&task=water&hidden=land");
  await settled(page);
  const command = await page.locator("#command").innerText();
  const [, url] = /'(http[^']+)'/.exec(command);
  const answer = await fetch(url);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("content-type"), "image/png");
  await page.close();
});

see("an_address_with_a_model_that_is_not_here_says_so", "#model=wrold&source=trees", async ({ page }) => {
  await settled(page);
  assert.match(await page.locator("#messages").innerText(), /no model “wrold”/);
});

see("objects_and_masks_have_one_resolution", "#model=trees", async ({ page, answers }) => {
  await settled(page);
  assert.ok(tiles(answers, ".mvt").every(({ url }) => url.includes("tilesize=512")));
});

see("imagery_of_another_scale_is_named", "#model=trees&source=world", async ({ page }) => {
  await settled(page);
  await page.evaluate(() => globalThis.viewer.mapView.jumpTo({ zoom: 19, lat: 8, lon: 116 }));
  await page.waitForSelector("#hint:not([hidden])");
  assert.match(await page.locator("#hint").innerText(), /the model was trained on 0.1 m/);
});

see("copied_links_give_what_is_seen", "#model=trees&threshold=0.8", async ({ page }) => {
  await settled(page);
  for (const [kind, format] of [["tilejson", "application/json"], ["tile", "application/vnd.mapbox-vector-tile"]]) {
    await page.locator("#command-kind").selectOption(kind);
    const command = await page.locator("#command").innerText();
    const [url] = /http[^'\s]+/.exec(command);
    assert.match(url, /threshold=0.8/);
    const answer = await fetch(url);
    assert.equal(answer.headers.get("content-type"), format, url);
    if (kind === "tilejson") assert.match((await answer.json()).tiles[0], /\.mvt\?.*threshold=0\.8/);
  }
  await page.locator("#command-kind").selectOption("xyz");
  assert.match(await page.locator("#command-note").innerText(), /zooms \d+ to \d+/);
});

see("a_large_file_runs_as_a_job", "#model=trees", async ({ page, answers }) => {
  await settled(page);
  // Bytes behind the end of a TIFF are nobody's.
  const large = Buffer.concat([readFileSync(demo("trees_osbs.tif")), Buffer.alloc(5 << 20)]);
  await page.locator("#file").setInputFiles({ name: "large.tif", mimeType: "image/tiff", buffer: large });
  await page.waitForSelector(".card.done");
  assert.match(await page.locator(".card.done").innerText(), /\d+ objects?/);
  const predicted = answers.filter(({ url }) => url.includes("/v1/predict/"));
  assert.deepEqual(predicted.map(({ status }) => status), [202]);
  await page.waitForFunction(async () => (await (await fetch("v1/jobs")).json()).jobs.length === 0);
});

see("a_narrow_dark_screen_has_map_and_controls", "#model=trees", async ({ page }) => {
  await settled(page);
  await screenshot(page, "narrow-dark");
  const map = await page.locator("#map").boundingBox();
  const panel = await page.locator("#panel").boundingBox();
  assert.ok(map.width === 390 && map.height > 250, `the map has ${map.width} x ${map.height}`);
  assert.ok(panel.y >= map.y + map.height - 1 && panel.height > 200);
  await page.locator("#panel-toggle").click();
  await settled(page);
  assert.ok((await page.locator("#map").boundingBox()).height > 600);
}, { viewport: { width: 390, height: 800 }, colorScheme: "dark" });

see("every_control_has_a_name", "", async ({ page }) => {
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll("button, select, input")]
      .filter((control) => !control.closest("[hidden]") && !control.ariaLabel && !control.labels?.length && !control.textContent.trim())
      .map((control) => control.outerHTML),
  );
  assert.deepEqual(nameless, []);
});
