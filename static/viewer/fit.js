/** Fits over HTTP: the request, the job, places to label next, and the removal of models that are not needed any more. */

import { fitPath, getJson, modelPath, request, suggestPath } from "./api.js";
import { answerOfJob } from "./jobs.js";

/** The name of the task that a fit gives its model. */
export const FITTED_TASK = "classes";

/** Ids of models that this page makes. */
const OWN_ID = /^my-labels-(\d+)$/;

/** Other pages on the same server may take an id first; so many are tried. */
const MOST_ATTEMPTS = 5;

/** Places suggested at once: as many as somebody labels before the next fit. */
const SUGGESTIONS = 10;

/** Longest title of a model, in characters: as wide as the list of models. */
const TITLE_LENGTH = 60;

/** The next free number for an id, above all numbers in use. */
const nextNumber = (ids) => 1 + Math.max(0, ...ids.map((id) => Number(OWN_ID.exec(id)?.[1] ?? 0)));

const rgb = (color) => [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));

function titleOf(names) {
  const title = `My labels: ${names.join(", ")}`;
  return title.length > TITLE_LENGTH ? `${title.slice(0, TITLE_LENGTH - 1)}…` : title;
}

/**
 * Fits a head on `base` to labels, and resolves to the new model's id. `taken` are ids of models in use, `claim` is called with the id before
 * the server is asked to use it, again if it was taken, `report` with the part done, from 0 to 1, or `null` while the job waits. Aborting `signal` cancels the job.
 */
export async function fitModel({ base, source, labels, taken, claim, report, signal }) {
  const used = labels.classes.filter(({ id }) => labels.count(id) > 0);
  const number = nextNumber(taken);
  const body = {
    task: FITTED_TASK,
    type: "segment",
    source,
    title: titleOf(used.map(({ name }) => name)),
    labels: labels.geojson,
    colors: Object.fromEntries(used.map(({ name, color }) => [name, rgb(color)])),
  };
  for (let attempt = 0; ; attempt += 1) {
    const id = `my-labels-${number + attempt}`;
    claim(id);
    try {
      const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ id, ...body }), signal };
      await answerOfJob(fitPath(base), options, report);
      return id;
    } catch (problem) {
      if (problem.status !== 409 || attempt + 1 === MOST_ATTEMPTS) throw problem;
    }
  }
}

/** Places `[lon, lat]` within bounds `[west, south, east, north]` whose labels would help a fitted model most. */
export async function suggestedPlaces(model, source, bbox) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ source, bbox, count: SUGGESTIONS }) };
  const { features } = await getJson(suggestPath(model), options);
  return features.map(({ geometry }) => geometry.coordinates);
}

/** Removes a model. That it is gone already is no problem. */
export async function removeModel(id) {
  try {
    await request(modelPath(id), { method: "DELETE" });
  } catch (problem) {
    if (problem.status !== 404) throw problem;
  }
}
