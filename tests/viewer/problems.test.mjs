/** The pages to which problems lead. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startBrowser, startServer } from "./server.mjs";

let server;
let browser;

before(async () => {
  server = await startServer();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  server?.stop();
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
