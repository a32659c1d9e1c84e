/** The server and the browser of a file of tests: started before its first test, gone after the last. */

import { after, before } from "node:test";
import { startBrowser, startServer } from "./server.mjs";

export let server;
export let browser;

before(async () => {
  server = await startServer();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  server?.stop();
});
