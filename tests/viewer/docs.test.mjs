/** The page /docs: what somebody gets who opens an operation, clicks "Try it out" and then "Execute". */

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { screenshot } from "./page.mjs";
import { startBrowser, startServer } from "./server.mjs";

const RASTER = join(import.meta.dirname, "..", "..", "static", "demo", "trees_osbs.tif");
const TABLE = join(import.meta.dirname, "..", "fixtures", "indexes", "cells.parquet");

/** Four chips as an npy file. */
function chips() {
  const header = "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 3, 64, 64), }";
  const values = Buffer.from({ length: 4 * 3 * 64 * 64 }, (_, at) => (at * 7) % 251);
  return Buffer.concat([Buffer.from("\x93NUMPY\x01\x00\x76\x00" + header.padEnd(117) + "\n", "latin1"), values]);
}

/** This server has no workers, and their jobs alone have files and blocks. */
const REFUSED = { get_job_file: /^404/, retry_job: /^409/ };

let root;
let server;
let browser;

before(async () => {
  // Where the example of `register_source` lies.
  root = mkdtempSync(join(tmpdir(), "satlas-docs-"));
  mkdirSync(join(root, "2024"));
  copyFileSync(RASTER, join(root, "2024", "harbour.tif"));
  writeFileSync(join(root, "chips.npy"), chips());
  server = await startServer(["--source-root", root]);
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  server?.stop();
  rmSync(root, { recursive: true, force: true });
});

/** Every operation of the document; those that fetch or remove what others make come last. */
async function operations() {
  const document = await (await fetch(`${server.address}/openapi.json`)).json();
  const all = Object.values(document.paths).flatMap((item) => Object.entries(item).map(([method, operation]) => ({ method, operation })));
  const last = ({ method, operation }) => (method === "delete" ? 2 : operation.operationId === "download_model" ? 1 : 0);
  return all.sort((a, b) => last(a) - last(b)).map(({ operation }) => ({ id: operation.operationId, tag: operation.tags[0] }));
}

/** Submits a job and waits until it is done: an example cannot name one. */
async function finishedJob(address) {
  const form = new FormData();
  form.set("image", new Blob([readFileSync(RASTER)]), "trees.tif");
  const url = `${address}/v1/predict/trees/tree_crown?format=png`;
  const { id } = await (await fetch(url, { method: "POST", body: form, headers: { Prefer: "respond-async" } })).json();
  for (let state = "queued"; state !== "done"; ) ({ state } = await (await fetch(`${address}/v1/jobs/${id}`)).json());
  return id;
}

test("the_first_click_on_every_operation_works", { timeout: 300_000 }, async () => {
  const page = await browser.newPage({ viewport: { width: 1200, height: 1400 } });
  await page.goto(`${server.address}/docs/`);
  await page.waitForSelector(".opblock");
  const job = await finishedJob(server.address);
  const failed = [];
  for (const { id, tag } of await operations()) {
    const block = page.locator(`#operations-${tag}-${id}`);
    await block.locator(".opblock-summary-control").first().click();
    await block.locator(".try-out__btn").click();
    // Only a file and a job cannot be filled in beforehand.
    const file = block.locator("input[type=file]").first();
    const files = { create_index: TABLE, fit_chips: join(root, "chips.npy") };
    if (await file.count()) await file.setInputFiles(files[id] ?? RASTER);
    const jobField = block.locator("input[placeholder=job]");
    if (await jobField.count()) await jobField.fill(job);
    await block.locator(".execute").click();
    const status = block.locator(".live-responses-table tbody .response-col_status").first();
    const text = await status.innerText({ timeout: 60_000 }).catch(() => "no response");
    if (!(REFUSED[id] ?? /^2\d\d/).test(text.trim())) {
      failed.push(`${id}: ${text.trim()}`);
      await screenshot(page, `docs-${id}`);
    }
    // Another example names what this one makes.
    const made = { fit_model: "models/probe", index_area: "indexes/greece" }[id];
    if (made && failed.length === 0) while (!(await fetch(`${server.address}/v1/${made}`)).ok);
    await block.locator(".opblock-summary-control").first().click();
  }
  assert.deepEqual(failed, []);
  await page.close();
});

test("the_type_of_a_problem_leads_to_its_description", async () => {
  const problem = await (await fetch(`${server.address}/v1/models/word`)).json();
  const page = await browser.newPage();
  const response = await page.goto(new URL(problem.type, server.address).href);
  assert.equal(response.status(), 200);
  assert.equal(await page.locator("h1").innerText(), problem.title);
  assert.match(await page.locator("body").innerText(), /GET \/v1\/models/);
  await page.close();
});
