/** The round trip with openapi-generator's client for TypeScript (fetch). */

import assert from "node:assert/strict";
import {
  Configuration,
  DetectionsFromJSON,
  FeatureCollectionFromJSON,
  JobFromJSON,
  JobsApi,
  ModelOrigin,
  ModelsApi,
  PredictApi,
  PredictFormat,
  ProblemCode,
  ProblemFromJSON,
  ResponseError,
  SourcesApi,
  TaskType,
  TileFormat,
  TileSize,
  TilesApi,
} from "./generated/openapi_generator/index.js";
import { assertBegins, BASE, image, KEY, KEYED_BASE, NPY, PAIR_MODEL, pause, PNG } from "./common.js";

const configuration = new Configuration({ basePath: BASE });
const models = new ModelsApi(configuration);
const sources = new SourcesApi(configuration);
const tiles = new TilesApi(configuration);
const predictions = new PredictApi(configuration);
const jobs = new JobsApi(configuration);

/** The problem with which a request is refused. */
async function problemOf(request: Promise<unknown>) {
  const error = await request.then(() => undefined, (error: unknown) => error);
  assert.ok(error instanceof ResponseError, "the request was not refused");
  return ProblemFromJSON(await error.response.json());
}

const listed = (await models.listModels()).models;
assert.deepEqual(listed.filter(({ origin }) => origin === ModelOrigin.Demo).map(({ id }) => id).sort(), ["trees", "world"]);

// Tiles in every form, and their description.
const world = { model: "world", task: "water", source: "world" };
await assertBegins(await tiles.getTile({ ...world, z: 3, x: 4, y: 3, format: TileFormat.Png, tilesize: TileSize.NUMBER_512 }), PNG);
const crowns = { model: "trees", task: "tree_crown", source: "trees", z: 20, x: 202509, y: 377406 };
assert.ok((await tiles.getTile({ ...crowns, format: TileFormat.Mvt }))!.size > 100);
const text = await (await tiles.getTile({ ...crowns, format: TileFormat.Geojson }))!.text();
assert.equal(FeatureCollectionFromJSON(JSON.parse(text)).features[0].properties.category, "tree");
assert.equal((await tiles.getTilejson(world)).minzoom, 1);

// A GeoTIFF in; objects and arrays out.
const trees = { model: "trees", task: "tree_crown", image };
const answer = await predictions.predict({ ...trees, format: PredictFormat.Json });
const found = DetectionsFromJSON(JSON.parse(await answer.text()));
assert.ok(found.categories[0] === "tree" && found.boxes.length === found.scores.length && found.scores.length > 10);
await assertBegins(await predictions.predict({ model: "world", task: "water", image, format: PredictFormat.Npy }), NPY);

// Two captures, for a model that takes several; new heads on a model.
await assertBegins(await predictions.predict({ model: PAIR_MODEL, task: "embedding", image, image2: image, format: PredictFormat.Npy }), NPY);
const heads = [{ task: "cover", type: TaskType.Segment, categories: ["land", "water"] }];
assert.equal((await models.createModel({ manifest: { id: "og-ts", base: "world", seed: 7, heads } })).tasks[0].name, "cover");
await models.deleteModel({ model: "og-ts" });

// A source by upload.
assert.equal((await sources.createSource({ image, id: "og-ts", title: "Crowns" })).sampleType, "uint8");
assert.equal((await sources.getSource({ source: "og-ts" })).title, "Crowns");
await sources.deleteSource({ source: "og-ts" });

// A job, from 202 to its result.
const submitted = await predictions.predictRaw({ ...trees, format: PredictFormat.Json, prefer: "respond-async" });
assert.equal(submitted.raw.status, 202);
let job = JobFromJSON(await submitted.raw.json());
while (job.state === "queued" || job.state === "running") {
  await pause();
  job = await jobs.getJob({ job: job.id });
}
assert.equal(job.state, "done");
assert.deepEqual(DetectionsFromJSON(JSON.parse(await (await jobs.getJobResult({ job: job.id })).text())), found);

// Problems are typed.
assert.equal((await problemOf(models.getModel({ model: "word" }))).code, ProblemCode.NotFound);

// Both kinds of API key, and none.
const keyed = (keys: { accessToken?: string; apiKey?: string }) => new ModelsApi(new Configuration({ basePath: KEYED_BASE, ...keys }));
assert.equal((await keyed({ accessToken: KEY }).getModel({ model: "world" })).id, "world");
assert.equal((await keyed({ apiKey: KEY }).getModel({ model: "world" })).id, "world");
assert.equal((await problemOf(keyed({}).getModel({ model: "world" }))).code, ProblemCode.Unauthorized);
