/** Starts the program under test on a free port, and a browser that draws with software WebGL. */

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

/** How long the server may take to print its address, in milliseconds. */
const START_MS = 30_000;

/** Starts `SATLAS_SERVE_BIN` with further options; resolves to its address and a function that stops it. */
export function startServer(options = []) {
  const binary = process.env.SATLAS_SERVE_BIN;
  if (!binary) throw new Error("SATLAS_SERVE_BIN must name the satlas-serve binary to test");
  const child = spawn(binary, ["--port", "0", ...options], { stdio: ["ignore", "pipe", "pipe"] });
  const said = [];
  return new Promise((resolve, reject) => {
    const fail = (why) => reject(new Error(`${binary} ${why}; it said:\n${said.join("\n")}`));
    const timer = setTimeout(() => {
      child.kill();
      fail(`named no address within ${START_MS} ms`);
    }, START_MS);
    child.once("error", (error) => fail(error.message));
    child.once("exit", (code) => fail(`ended with ${code}`));
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on("line", (line) => {
        said.push(line);
        // Logs may be coloured in the middle of a word.
        const address = /http:\/\/127\.0\.0\.1:\d+/.exec(line.replaceAll(/\x1b\[[0-9;]*m/g, ""));
        if (!address) return;
        clearTimeout(timer);
        resolve({ address: address[0], stop: () => child.kill() });
      });
  });
}

/** A headless browser: Debian's Chromium, or the one that `CHROMIUM` names. */
export const startBrowser = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--use-gl=angle",
      "--use-angle=swiftshader",
      "--enable-unsafe-swiftshader",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-first-run",
      "--disable-quic",
    ],
  });
