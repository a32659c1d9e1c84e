/** What takes longer than a request may: handed in as jobs, watched, and cancelled with the run. */

import { getJson, Problem, request } from "./api.js";

/** From so many bytes on, files are run as jobs. */
export const JOB_BYTES = 4 << 20;

/** Time between two looks at a job, in milliseconds: short at first, for jobs that are short, and longer from one look to the next. */
const PAUSE_MS = { first: 50, longest: 500, growth: 1.5 };

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * The answer to a request that runs as a job. `report` is called with the part done, from 0 to 1, or `null` while the job waits.
 * Aborting `signal` cancels the job.
 */
export async function answerOfJob(path, { signal, headers, ...options }, report) {
  const accepted = await request(path, { ...options, signal, headers: { ...headers, Prefer: "respond-async" } });
  const { links } = await accepted.json();
  const remove = () => request(links.self, { method: "DELETE" }).catch(() => {});
  try {
    const result = await ended(links.self, signal, report);
    const answer = await request(result, { signal });
    const body = await answer.blob();
    return new Response(body, { headers: answer.headers });
  } finally {
    // One that runs is cancelled, one that has ended is not needed any more.
    remove();
  }
}

/** Waits for the end of a job and returns the path of its result. */
async function ended(path, signal, report) {
  for (let pauseMs = PAUSE_MS.first; ; pauseMs = Math.min(pauseMs * PAUSE_MS.growth, PAUSE_MS.longest)) {
    const { state, progress, error, links } = await getJson(path, { signal });
    if (state === "done") return links.result;
    if (state === "failed") throw new Problem({ status: error.status, title: error.title, detail: error.detail });
    if (state === "cancelled") throw new Problem({ status: 0, title: "Cancelled", detail: "The job was cancelled." });
    report(state === "running" ? progress : null);
    await pause(pauseMs);
    signal.throwIfAborted();
  }
}
