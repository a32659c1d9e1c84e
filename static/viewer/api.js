/** The server's routes, and the errors they answer with. */

/** Lowest score of any object. Objects are fetched once with this threshold; the slider then filters them in the page. */
export const OBJECT_SCORE_FLOOR = 0.05;

/** An absolute URL of the server; relative to the page, so that a proxy may serve both under a prefix. */
export const absolute = (path) => new URL(path, document.baseURI).href;

/** An answer that is an RFC 9457 problem, or no answer at all (`status` 0). */
export class Problem extends Error {
  constructor({ status, title, detail, retryAfter }) {
    super(detail || title || `The server answered ${status}.`);
    this.status = status;
    this.title = title || (status ? `Error ${status}` : "No connection");
    this.retryAfterSeconds = retryAfter;
  }

  /** The problem an answer holds. */
  static async of(response) {
    const body = await response.json().catch(() => ({}));
    const seconds = Number(response.headers.get("Retry-After"));
    return new Problem({
      status: response.status,
      title: body.title ?? response.statusText,
      detail: body.detail,
      retryAfter: Number.isFinite(seconds) && seconds > 0 ? seconds : undefined,
    });
  }
}

const KEY_SLOT = "satlas-serve-api-key";

/** The key for servers that ask for one; kept for this tab only. */
export const apiKey = {
  get: () => sessionStorage.getItem(KEY_SLOT),
  set: (key) => sessionStorage.setItem(KEY_SLOT, key),
};

/** `fetch` that throws a `Problem` unless the status is 2xx. */
export async function request(path, options = {}) {
  let response;
  try {
    const key = apiKey.get();
    const headers = { ...options.headers, ...(key && { "X-Api-Key": key }) };
    response = await fetch(absolute(path), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ status: 0, detail: "The server cannot be reached. Is satlas-serve still running?" });
  }
  if (!response.ok) throw await Problem.of(response);
  return response;
}

/** The JSON of a route. */
export const getJson = async (path, options) => (await request(path, options)).json();

/** Milliseconds per step of a `Server-Timing` header, in its order. */
export function serverTiming(response) {
  const header = response.headers.get("Server-Timing") ?? "";
  const steps = [];
  for (const entry of header.split(",")) {
    const [name, ...params] = entry.split(";").map((part) => part.trim());
    const duration = params.find((param) => param.startsWith("dur="));
    if (name && duration) steps.push([name, Number(duration.slice("dur=".length).replaceAll('"', ""))]);
  }
  return steps;
}

/** `Server-Timing` for people. */
export const timingText = (steps) => steps.map(([name, ms]) => `${name} ${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`).join(" · ");

const query = (params) => {
  const kept = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(kept).toString().replaceAll("%2C", ",");
  return text && `?${text}`;
};

/** Path of a source's TileJSON. */
export const sourceTileJson = (source) => `v1/sources/${encodeURIComponent(source)}/tilejson.json`;

/** Path template of a source's tiles. */
export const sourceTiles = (source) => `v1/sources/${encodeURIComponent(source)}/tiles/{z}/{x}/{y}.png`;

const taskPath = (model, task) => `${encodeURIComponent(model)}/${encodeURIComponent(task)}`;

/** Path of a task's TileJSON. */
export const taskTileJson = (model, task, params) => `v1/tiles/${taskPath(model, task)}/tilejson.json${query(params)}`;

/** Path template of a task's tiles. */
export const taskTiles = (model, task, format, params) =>
  `v1/tiles/${taskPath(model, task)}/{z}/{x}/{y}.${format}${query(params)}`;

/** Path that registers an uploaded raster as a source. */
export const uploadPath = (title) => `v1/sources${query({ title })}`;

/** Path of a prediction on an uploaded raster. */
export const predictPath = (model, task, params) => `v1/predict/${taskPath(model, task)}${query(params)}`;

/** Path of a model. */
export const modelPath = (model) => `v1/models/${encodeURIComponent(model)}`;

/** Path that fits a head on a model to labels. */
export const fitPath = (model) => `${modelPath(model)}/fit`;

/** Path that suggests places to label next. */
export const suggestPath = (model) => `${modelPath(model)}/suggest`;

/** Path of all indexes, and of one. */
export const indexPath = (index) => (index === undefined ? "v1/indexes" : `v1/indexes/${encodeURIComponent(index)}`);

/** Path that makes an index of an area. */
export const INDEX_AREA = "v1/indexes/area";

/** Path that searches an index. */
export const searchPath = (index) => `${indexPath(index)}/search`;
