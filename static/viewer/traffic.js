/**
 * Fetches tiles for the map: counts those that are loading, retries while the server is loading or busy, and remembers
 * failures. The map uses the protocol `tile://`, so that image and vector tiles are fetched in the same way.
 */

import { addProtocol } from "../vendor/maplibre-gl/maplibre-gl.mjs";
import { request, serverTiming } from "./api.js";

const SCHEME = "tile://";

/** Attempts per tile while the server is busy. It usually asks for one second between attempts, so a model has a minute to load. */
const MOST_ATTEMPTS = 60;

/** Statuses after which a request is repeated. */
const LATER = new Set([429, 503]);

const pause = (seconds, signal) =>
  new Promise((done, failed) => {
    const timer = setTimeout(done, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      failed(signal.reason);
    }, { once: true });
  });

/** The tiles that are loading. Fires `change`. A `layer` is `imagery` or `result`. */
export class Traffic extends EventTarget {
  /** Requests under way. */
  pending = 0;
  /** The server's reason for waiting, or `null`. */
  waitingFor = null;
  /** Steps and milliseconds of the last result tile. */
  timing = [];
  #failures = [];

  constructor() {
    super();
    addProtocol("tile", (params, controller) => this.#load(params.url, controller.signal));
  }

  /** The URL template by which the map asks for tiles of a layer. */
  template(layer, path) {
    return `${SCHEME}${layer}/${path}`;
  }

  /** Failed tiles: how many, and the problem of the last. */
  get failed() {
    return { count: this.#failures.length, problem: this.#failures.at(-1)?.problem };
  }

  /** Forgets the failures of a layer whose tiles are about to be requested again. */
  forget(layer) {
    this.#failures = this.#failures.filter((failure) => failure.layer !== layer);
    this.#announce();
  }

  /** Requests a tile of a layer; the body of the answer is not yet read. */
  async fetch(layer, path, signal) {
    this.pending += 1;
    this.#announce();
    try {
      const response = await this.#patiently(path, signal);
      const steps = serverTiming(response);
      if (layer === "result" && steps.length > 0) this.timing = steps;
      return response;
    } catch (problem) {
      if (!signal.aborted) this.#failures.push({ layer, problem });
      throw problem;
    } finally {
      this.pending -= 1;
      if (this.pending === 0) this.waitingFor = null;
      this.#announce();
    }
  }

  /** Handles `tile://` requests of the map. An empty body (204) is a tile without content. */
  async #load(url, signal) {
    const rest = url.slice(SCHEME.length);
    const layer = rest.slice(0, rest.indexOf("/"));
    const response = await this.fetch(layer, rest.slice(layer.length + 1), signal);
    return { data: await response.arrayBuffer() };
  }

  async #patiently(path, signal) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const response = await request(path, { signal });
        this.waitingFor = null;
        return response;
      } catch (problem) {
        if (signal.aborted || !LATER.has(problem.status) || attempt >= MOST_ATTEMPTS) throw problem;
        this.waitingFor = problem.message;
        this.#announce();
        await pause(Math.min(problem.retryAfterSeconds ?? 1, 10), signal);
      }
    }
  }

  #announce() {
    this.dispatchEvent(new Event("change"));
  }
}
