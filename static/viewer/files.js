/** Files dropped on the page: they are sent to the chosen model, and the answers are shown on the map or beside it. */

import { predictPath, request, serverTiming, timingText, uploadPath } from "./api.js";
import { byId, bytes, el, icon, words } from "./dom.js";
import { answerOfJob, JOB_BYTES } from "./jobs.js";
import { boundsOf, corners, positions } from "./projection.js";
import { keyOf, uploadOptions } from "./result.js";
import { announce } from "./status.js";

/** Media types by file ending; browsers do not know all of them. */
const MEDIA_TYPES = {
  tif: "image/tiff",
  tiff: "image/tiff",
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  npy: "application/x-npy",
};

const mediaType = ({ name, type }) => MEDIA_TYPES[name.split(".").pop().toLowerCase()] ?? (type || "application/octet-stream");

/** One raster is sent as the body; several captures of one place as the parts `image`, `image_2`, … in the order of their names. */
function body(files) {
  if (files.length === 1) return { body: files[0], headers: { "Content-Type": mediaType(files[0]) } };
  const form = new FormData();
  files.forEach((file, index) => form.append(index === 0 ? "image" : `image_${index + 1}`, new Blob([file], { type: mediaType(file) }), file.name));
  return { body: form };
}

const sizeOf = (files) => files.reduce((sum, { size }) => sum + size, 0);

const count = (number, one) => `${number} ${one}${number === 1 ? "" : "s"}`;

function summary(task, features) {
  if (!features) return "values drawn as an image";
  if (task.type.includes("classification")) {
    const best = features[0]?.properties;
    return best ? `${words(best.category)}, score ${(best.score * 100).toFixed(1)} %` : "no category";
  }
  return count(features.length, task.type === "detect" || task.type === "instance" ? "object" : "area");
}

/** Runs files and keeps their results. */
export class FileRuns {
  #next = 1;

  #placed = new Map();

  /** `current` tells the chosen `{ model, task }` and the state; `addSource` is called with a file that became a source. */
  constructor({ mapView, pixelPanel, current, addSource }) {
    Object.assign(this, { mapView, pixelPanel, current, addSource });
    const input = byId("file");
    byId("browse").addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      this.run([...input.files]);
      input.value = "";
    });
    this.#listenToDrops();
  }

  /** Bounds of the results on the map. */
  get places() {
    return [...this.#placed.values()];
  }

  #listenToDrops() {
    const cover = byId("drop");
    // `dragenter` of a child fires before `dragleave` of its parent, so only a count tells when a drag leaves the page.
    let depth = 0;
    const show = (shown) => {
      cover.hidden = !shown;
      const { model, task } = this.current();
      byId("drop-task").textContent = task ? `to run ${words(task.name).toLowerCase()} of ${model.title} on it` : "";
    };
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragenter", (event) => hasFiles(event) && (depth += 1) === 1 && show(true));
    addEventListener("dragleave", (event) => hasFiles(event) && (depth -= 1) === 0 && show(false));
    addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth = 0;
      show(false);
      this.run([...event.dataTransfer.files]);
    });
  }

  /** Runs the chosen task: on all files as captures of one place where the model takes several, else on one after another. */
  async run(files) {
    const { model, task } = this.current();
    if (files.length === 0 || !task) return;
    const named = files.toSorted((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
    const batches = model.max_images > 1 ? [named] : named.map((file) => [file]);
    for (const batch of batches) await this.#runOne(batch);
  }

  async #runOne(files) {
    const { model, task, state } = this.current();
    const title = files.length === 1 ? files[0].name : `${files[0].name} + ${files.length - 1}`;
    const run = { prefix: `file-${this.#next++}`, title, file: files[0], task, key: keyOf({ model, task }), cancel: new AbortController() };
    const card = this.#card(run, files);
    try {
      const path = predictPath(model.id, task.name, uploadOptions(task, state));
      const options = { method: "POST", ...body(files), signal: run.cancel.signal };
      const isLarge = sizeOf(files) >= JOB_BYTES;
      const response = await (isLarge ? answerOfJob(path, options, card.progressed) : request(path, options));
      await this.#show(run, response);
      card.done(run, response);
    } catch (problem) {
      if (run.cancel.signal.aborted) card.remove();
      else card.failed(problem);
    }
  }

  /** Puts an answer where it belongs. */
  async #show(run, response) {
    run.blob = await response.blob();
    run.isImage = response.headers.get("Content-Type")?.startsWith("image/");
    const { state } = this.current();
    if (run.isImage) {
      const place = corners(response.headers);
      if (place) {
        run.url = URL.createObjectURL(run.blob);
        run.bounds = boundsOf(place);
        this.mapView.showImage(run.prefix, run.url, place, state.opacity);
      }
    } else {
      const collection = JSON.parse(await run.blob.text());
      run.features = collection.features;
      if (collection.coordinates !== "pixel") {
        const reach = corners(response.headers) ?? run.features.flatMap(({ geometry }) => [...positions(geometry)]);
        run.bounds = boundsOf(reach);
        this.mapView.showGeoJson("files", run.prefix, collection, run.task, run.key, state);
        run.onMap = true;
      }
    }
    run.onMap ||= Boolean(run.bounds);
    if (run.bounds) this.#placed.set(run.prefix, run.bounds);
    this.#see(run);
  }

  /** Brings a result into view. */
  #see(run) {
    if (run.bounds) this.mapView.fitTo(run.bounds);
    else if (!run.onMap)
      this.pixelPanel.open(
        { ...run, file: new Blob([run.file], { type: mediaType(run.file) }), image: run.isImage ? run.blob : undefined },
        this.current().state,
      );
  }

  /** Registers the file as a source of the server, so that its imagery is shown under the result. */
  async #addSource(run, button) {
    button.disabled = true;
    try {
      const response = await request(uploadPath(run.title), { method: "POST", ...body([run.file]) });
      await this.addSource(await response.json());
      button.remove();
    } catch (problem) {
      button.disabled = false;
      announce(problem);
    }
  }

  #remove(run) {
    this.mapView.remove(run.prefix);
    this.#placed.delete(run.prefix);
    if (run.url) URL.revokeObjectURL(run.url);
    if (run.url === undefined && !run.onMap) this.pixelPanel.close();
  }

  #download(run) {
    const link = el("a", { href: URL.createObjectURL(run.blob), download: `${run.title}.${run.key.replace("/", "-")}.${run.isImage ? "png" : "geojson"}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  /** The card of a run in the panel: running, then done or failed. */
  #card(run, files) {
    const text = el("p", { className: "quiet" }, `Running ${run.key} on ${bytes(sizeOf(files))} …`);
    const actions = el("p", { className: "row" });
    const item = el("li", { className: "card running" }, el("p", { className: "card-title" }, run.title), text, actions);
    const remove = () => item.remove();
    const action = (name, label, onclick) => el("button", { type: "button", className: "small", onclick }, icon(name), label);
    actions.append(action("close", "Cancel", () => run.cancel.abort()));
    byId("runs").prepend(item);
    return {
      remove,
      progressed: (part) => {
        text.textContent = part === null ? `${run.key} on ${bytes(sizeOf(files))} waits for its turn` : `${run.key}: ${Math.round(part * 100)} %`;
      },
      done: (done, response) => {
        item.className = "card done";
        text.textContent = `${run.key}: ${summary(run.task, done.features)}`;
        const timing = timingText(serverTiming(response));
        if (timing) text.after(el("p", { className: "quiet timing" }, timing));
        const warnings = response.headers.get("X-Input-Warnings");
        if (warnings) text.after(el("p", { className: "warning" }, warnings));
        actions.replaceChildren(
          action("target", "Show", () => this.#see(done)),
          done.bounds && files.length === 1 ? action("upload", "Add as imagery", ({ currentTarget }) => this.#addSource(done, currentTarget)) : "",
          action("download", "Download", () => this.#download(done)),
          action("close", "Remove", () => (this.#remove(done), remove())),
        );
      },
      failed: (problem) => {
        item.className = "card failed";
        item.setAttribute("role", "alert");
        text.className = "";
        text.replaceChildren(el("strong", {}, problem.title ?? "Failed"), ` ${problem.message}`);
        actions.replaceChildren(action("close", "Dismiss", remove));
      },
    };
  }
}
