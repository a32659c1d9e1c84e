/** The round trip with the client of hey-api's openapi-ts. */

import assert from "node:assert/strict";
import { createClient } from "./generated/hey_api/client/index.js";
import * as satlas from "./generated/hey_api/index.js";
import { assertBegins, BASE, image, KEY, KEYED_BASE, NPY, PAIR_MODEL, pause, PNG } from "./common.js";

const client = createClient({ baseUrl: BASE });

/** The answer as what the wanted format is: hey-api types only one of the media types that an operation answers with. */
const as = <T>(data: unknown) => data as T;

const models = await satlas.listModels({ client, throwOnError: true });
assert.deepEqual(models.data.models.filter(({ origin }) => origin === "demo").map(({ id }) => id).sort(), ["trees", "world"]);

// Tiles in every form, and their description.
const png = await satlas.getTile({
  client,
  path: { model: "world", task: "water", z: 3, x: 4, y: 3, format: "png" },
  query: { source: "world", tilesize: 512 },
});
await assertBegins(as<Blob>(png.data), PNG);
const crowns = { model: "trees", task: "tree_crown", z: 20, x: 202509, y: 377406 };
const query = { source: "trees" };
const mvt = await satlas.getTile({ client, path: { ...crowns, format: "mvt" }, query, parseAs: "blob" });
assert.ok(as<Blob>(mvt.data).size > 100);
const features = await satlas.getTile({ client, path: { ...crowns, format: "geojson" }, query, parseAs: "json" });
assert.equal(as<satlas.FeatureCollection>(features.data).features[0].properties.category, "tree");
const tilejson = await satlas.getTilejson({ client, path: { model: "world", task: "water" }, query: { source: "world" } });
assert.equal(tilejson.data!.minzoom, 1);

// A GeoTIFF in; objects and arrays out.
const trees = { path: { model: "trees", task: "tree_crown" }, query: { format: "json" as const }, body: { image } };
const answer = await satlas.predict({ client, ...trees });
const found = as<satlas.Detections>(answer.data);
assert.ok(found.categories[0] === "tree" && found.boxes.length === found.scores.length && found.scores.length > 10);
const water = await satlas.predict({ client, path: { model: "world", task: "water" }, query: { format: "npy" }, body: { image }, parseAs: "blob" });
await assertBegins(as<Blob>(water.data), NPY);

// Two captures, for a model that takes several; new heads on a model.
const body = { image, image_2: image };
const two = await satlas.predict({ client, path: { model: PAIR_MODEL, task: "embedding" }, query: { format: "npy" }, body, parseAs: "blob" });
await assertBegins(as<Blob>(two.data), NPY);
const heads = [{ task: "cover", type: "segment" as const, categories: ["land", "water"] }];
const created = await satlas.createModel({ client, body: { id: "hey", base: "world", seed: 7, heads } });
assert.equal(created.data!.tasks[0].name, "cover");
await satlas.deleteModel({ client, path: { model: "hey" } });

// A source by upload.
const source = await satlas.createSource({ client, query: { id: "hey", title: "Crowns" }, body: { image } });
assert.equal(source.data!.sample_type, "uint8");
assert.equal((await satlas.getSource({ client, path: { source: "hey" } })).data!.title, "Crowns");
await satlas.deleteSource({ client, path: { source: "hey" } });

// A job, from 202 to its result.
const submitted = await satlas.predict({ client, ...trees, headers: { Prefer: "respond-async" } });
assert.equal(submitted.response!.status, 202);
let job = as<satlas.Job>(submitted.data);
while (job.state === "queued" || job.state === "running") {
  await pause();
  job = (await satlas.getJob({ client, path: { job: job.id }, throwOnError: true })).data;
}
assert.equal(job.state, "done");
assert.deepEqual(as<satlas.Detections>((await satlas.getJobResult({ client, path: { job: job.id } })).data), found);

// Problems are typed.
const missing = await satlas.getModel({ client, path: { model: "word" } });
assert.equal(missing.error!.code, "not_found");

// Both kinds of API key, and none.
const world = { path: { model: "world" } };
const bearer = createClient({ baseUrl: KEYED_BASE, auth: KEY });
assert.equal((await satlas.getModel({ client: bearer, ...world })).data!.id, "world");
const header = createClient({ baseUrl: KEYED_BASE, auth: ({ type }) => (type === "apiKey" ? KEY : undefined) });
assert.equal((await satlas.getModel({ client: header, ...world })).data!.id, "world");
const stranger = createClient({ baseUrl: KEYED_BASE });
assert.equal((await satlas.getModel({ client: stranger, ...world })).error!.code, "unauthorized");
