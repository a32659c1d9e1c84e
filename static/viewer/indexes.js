/** Indexes over HTTP: which area one is of, the job that makes it, searches, and its removal. */

import { getJson, INDEX_AREA, indexPath, request, searchPath } from "./api.js";
import { answerOfJob } from "./jobs.js";

/** The layer that cells are compared by: the server's default, and the one that says most of what a place is. */
const LAYER = "backbone.3";

/** Sides that the page offers for cells, in pixels of the model. */
export const CELL_SIDES_PX = [32, 64, 128, 256];

/** Imagery of up to so many pixels is compared as a whole, which takes seconds; of larger one, at first what is in view. */
const FEW_PIXELS = 2 ** 22;

/** Pixels that are compared at most: they take a minute or two. */
const MOST_PIXELS = 2 ** 26;

/** Cells that are shown at most. */
export const MOST_FOUND = 200;

/** Cells that the server answers at most. */
const MOST_ANSWERED = 10_000;

/** Metres of a degree of latitude. */
const DEGREE_M = 111_195;

/** Where the grids of areas end: at the edges of Web Mercator. */
const LAST_LATITUDE = 85;

const POST = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** The width of bounds in degrees, which cross the antimeridian if west is greater than east. */
const widthOf = ([west, , east]) => (east < west ? east - west + 360 : east - west);

/** About how many pixels of a model bounds `[west, south, east, north]` have. */
function pixelsOf(bounds, { native_gsd_m: side }) {
  const [, south, , north] = bounds;
  const across = widthOf(bounds) * DEGREE_M * Math.cos(((south + north) / 2) * (Math.PI / 180));
  return (across * (north - south) * DEGREE_M) / side ** 2;
}

/** A longitude from -180 to 180. */
const turned = (lon) => lon - 360 * Math.ceil((lon - 180) / 360);

/**
 * What bounds and a view have in common; `null` if that is nothing. Bounds that cross the antimeridian have a west that is greater than
 * their east, and so has the result; a view goes on beyond 180 degrees instead. Of several parts the widest is taken.
 */
export function common([west, south, east, north], [left, bottom, right, top]) {
  const end = west + widthOf([west, south, east, north]);
  const [low, high] = [Math.max(south, bottom), Math.min(north, top)];
  const parts = [-720, -360, 0, 360, 720].map((turn) => [Math.max(west, left + turn), Math.min(end, right + turn)]).filter(([from, to]) => from < to);
  if (low >= high || parts.length === 0) return null;
  // Bounds of all longitudes have no end: what ends there goes on where they begin.
  const last = parts.find(([, to]) => to === end && end - west === 360);
  const first = parts.find(([from]) => from === west);
  if (last && first && last !== first) parts.push([last[0], first[1] + 360]);
  const [from, to] = parts.reduce((widest, part) => (part[1] - part[0] > widest[1] - widest[0] ? part : widest));
  if (to - from >= end - west) return [west, low, east, high];
  const [start, stop] = [turned(from), turned(to)];
  return [start === 180 ? -180 : start, low, stop, high];
}

/** Whether a place lies in bounds, which cross the antimeridian if west is greater than east. */
export const isWithin = ([lon, lat], [west, south, east, north]) =>
  south <= lat && lat <= north && (west <= east ? west <= lon && lon <= east : west <= lon || lon <= east);

const wholeOf = ({ bounds: [west, south, east, north] }) => [west, Math.max(south, -LAST_LATITUDE), east, Math.min(north, LAST_LATITUDE)];

/** Whether a source can be compared as a whole. */
export const canBeWhole = (model, source) => pixelsOf(wholeOf(source), model) <= MOST_PIXELS;

/**
 * The area to compare cells of: all of a source if that is small or `isWhole` asks for it, else what a view `[west, south, east, north]`
 * shows of it. Throws an `Error` that says what was found and what is needed.
 */
export function areaOf(model, source, view, isWhole) {
  const whole = wholeOf(source);
  if (pixelsOf(whole, model) <= (isWhole ? MOST_PIXELS : FEW_PIXELS)) return { bbox: whole, isWhole: true };
  const bbox = common(whole, view);
  if (!bbox) throw new Error("None of the imagery is in view.");
  const pixels = pixelsOf(bbox, model);
  if (pixels > MOST_PIXELS) {
    const [found, most] = [pixels, MOST_PIXELS].map((count) => `${Math.round(count / 1e6).toLocaleString("en")} million`);
    throw new Error(`The view shows about ${found} pixels of the model; at most ${most} are compared at once. Zoom in.`);
  }
  // Views that differ by a hair share an index.
  return { bbox: bbox.map((degrees) => Number(degrees.toFixed(3))), isWhole: false };
}

/** A number of 53 bits for a text, after FNV-1a: page after page asks for the same index by it. */
function hash(text) {
  const part = (start) => [...text].reduce((sum, letter) => Math.imul(sum ^ letter.codePointAt(0), 0x01000193) >>> 0, start);
  return [0x811c9dc5, 0x9dc5811c].map((start) => part(start).toString(16).padStart(8, "0")).join("");
}

/** An index that the page wants: `{ id, bbox, isWhole, model, source, cellPx }`. */
export function indexOf(model, source, cellPx, area) {
  const parts = [model.id, source.id, source.version, LAYER, cellPx, ...area.bbox];
  return { id: `viewer-${hash(parts.join(" "))}`, ...area, model, source, cellPx };
}

/** What the server says of an index; `undefined` if it does not have it. */
export async function describeIndex(id) {
  const { indexes } = await getJson(indexPath());
  return indexes.find((index) => index.id === id);
}

/**
 * Makes an index and resolves to what the server says of it. `report` is called with the part done, from 0 to 1, or `null` while the job
 * waits. Aborting `signal` cancels the job.
 */
export async function makeIndex({ id, bbox, model, source, cellPx }, report, signal) {
  const body = { id, title: `${source.title}, by ${model.title}`, model: model.id, source: source.id, layer: LAYER, cell_px: cellPx, bbox };
  try {
    await answerOfJob(INDEX_AREA, { ...POST(body), signal }, report);
  } catch (problem) {
    // Another page was faster.
    if (problem.status !== 409) throw problem;
  }
  return getJson(indexPath(id), { signal });
}

/**
 * The cells most like the places `positive`, `[lon, lat]` each: GeoJSON features, the best first. Those that are more like the places
 * `negative` are left out.
 */
export async function similarCells(id, positive, negative, signal) {
  const search = async (places, limit) => {
    const body = { positive: places.map((point) => ({ point })), limit };
    return (await getJson(searchPath(id), { ...POST(body), signal })).features;
  };
  if (negative.length === 0) return search(positive, MOST_FOUND);
  const [like, unlike] = await Promise.all([positive, negative].map((places) => search(places, MOST_ANSWERED)));
  const scores = new Map(unlike.map(({ id: cell, properties }) => [cell, properties.score]));
  return like.filter(({ id: cell, properties }) => properties.score > (scores.get(cell) ?? -1)).slice(0, MOST_FOUND);
}

/** Removes an index. That it is gone already is no problem. */
export async function removeIndex(id) {
  try {
    await request(indexPath(id), { method: "DELETE" });
  } catch (problem) {
    if (problem.status !== 404) throw problem;
  }
}
