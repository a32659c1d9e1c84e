/** The page: loads the catalogue, and keeps URL, form, map and messages in step with one state. */

import { apiKey, getJson, sourceTileJson, sourceTiles } from "./viewer/api.js";
import { loadCatalog, missing, resolve, scaleRatio } from "./viewer/catalog.js";
import { drawControls, listenToControls } from "./viewer/controls.js";
import { byId, debounced } from "./viewer/dom.js";
import { FileRuns } from "./viewer/files.js";
import { Footprints } from "./viewer/footprints.js";
import { drawLegend } from "./viewer/legend.js";
import { MapView } from "./viewer/mapview.js";
import { PixelPanel } from "./viewer/pixels.js";
import { addPopups } from "./viewer/popup.js";
import { keyOf, showsNothing, tilesOf } from "./viewer/result.js";
import { drawShare, listenToShare } from "./viewer/share.js";
import { announce, followTraffic, showHint } from "./viewer/status.js";
import { Search } from "./viewer/search.js";
import { readFragment, Store, withModel, writeFragment } from "./viewer/store.js";
import { Teach } from "./viewer/teach.js";
import { Traffic } from "./viewer/traffic.js";

/** Where a source that covers the whole Earth opens: the islands of South-East Asia, which the demo model never trained on. */
const WORLD_VIEW = { zoom: 3.4, lat: 8, lon: 116 };

/** How many times larger or smaller than in training pixels may be before the page says so; the server warns from there on, too. */
const TOLERATED_SCALE_RATIO = 2;

const metres = (length) => `${length < 1 ? Number(length.toPrecision(2)) : Math.round(length)} m`;

/** Degrees of longitude from which a source counts as the whole Earth. */
const WORLD_WIDTH_DEG = 300;

class Viewer {
  #catalog;
  #selection;
  #tileJson = { imagery: null, result: null };
  #shown = { imagery: "", result: "" };
  #footprints = null;
  #generation = 0;
  #drawing = null;

  constructor() {
    this.store = new Store(readFragment(location.hash));
    this.traffic = new Traffic();
    this.mapView = new MapView("map", this.store.state.view);
    this.pixelPanel = new PixelPanel();
    this.popup = addPopups(this.mapView);
    this.files = new FileRuns({
      mapView: this.mapView,
      pixelPanel: this.pixelPanel,
      current: () => ({ ...this.#selection, state: this.store.state }),
      addSource: async ({ id }) => {
        this.#catalog = await loadCatalog();
        this.store.set({ source: id });
      },
    });
    this.teach = new Teach({
      mapView: this.mapView,
      current: () => ({ ...this.#selection, catalog: this.#catalog }),
      showModel: (id) => this.#showModel(id),
      reload: () => this.#reload(),
      begins: () => this.search.stop(),
    });
    this.search = new Search({
      mapView: this.mapView,
      current: () => ({ model: this.#baseModel, source: this.#selection.source }),
      begins: () => this.teach.stop(),
    });
  }

  /** The shown model, or if that was fitted here, the one whose features it has. */
  get #baseModel() {
    return this.#catalog.models.find(({ id }) => id === this.teach.base) ?? this.#selection.model;
  }

  async start() {
    const [catalog] = await Promise.all([loadCatalog(), this.mapView.ready]);
    this.#catalog = catalog;
    if (catalog.models.length === 0) throw new Error("The server offers no models.");
    const hasView = Boolean(this.store.state.view);
    listenToControls(this.store, { goToSource: () => this.#goToSource() });
    listenToShare();
    followTraffic(this.traffic, () => this.#showAgain());
    this.store.addEventListener("change", ({ detail: changed }) => this.#follow(changed));
    this.mapView.addEventListener("move", () => this.#moved());
    this.mapView.addEventListener("failed", ({ detail }) => announce(detail));
    byId("command-kind").addEventListener("change", () => this.#describe());
    addEventListener("hashchange", () => {
      const stated = readFragment(location.hash);
      if (stated.view) this.mapView.jumpTo(stated.view);
      this.store.reset(stated);
    });
    this.#selection = resolve(catalog, this.store.state);
    this.#tellMissing();
    await (this.#drawing = this.#draw());
    if (!hasView) this.#goToSource(false);
    document.body.classList.remove("starting");
  }

  async #follow(changed) {
    // The map's own `move` event has already updated the URL and what depends on the view.
    if (changed.size === 1 && changed.has("view")) return;
    const before = this.#selection;
    this.#selection = resolve(this.#catalog, this.store.state);
    if (changed.has("model") || changed.has("task") || changed.has("source")) this.#tellMissing();
    const { source } = this.#selection;
    if (changed.has("model") || changed.has("task") || changed.has("source")) this.popup.remove();
    await (this.#drawing = this.#draw());
    if (source && source.id !== before.source?.id && !changed.has("view")) this.#goToSource();
  }

  /** Shows the map of a model that the server has got since, on the imagery in view; the first choice if none is named. */
  async #showModel(id) {
    this.#catalog = await loadCatalog();
    this.store.set({ ...withModel(id), source: this.#selection.source.id });
    await this.#drawing;
  }

  /** Reads the catalogue again; what is shown stays. */
  async #reload() {
    this.#catalog = await loadCatalog();
    this.#selection = resolve(this.#catalog, this.store.state);
    await (this.#drawing = this.#draw());
  }

  /** Says which names of the address the server does not know, instead of quietly showing something else. */
  #tellMissing() {
    const message = missing(this.#catalog, this.store.state, this.#selection);
    if (message) announce({ message });
  }

  /** Brings everything on the page up to date with state and selection. */
  async #draw() {
    const { state } = this.store;
    drawControls(this.#catalog, this.#selection, state);
    this.#rememberUrl();
    this.teach.follow(this.#selection);
    this.search.follow();
    const { task, source } = this.#selection;
    if (!task || !source) return;
    drawLegend(task, this.store);
    this.mapView.restyle(keyOf(this.#selection), state);
    this.pixelPanel.draw(keyOf(this.#selection), state);
    this.mapView.setImageryShown(state.imagery);
    const generation = (this.#generation += 1);
    try {
      await this.#showImagery(source, () => generation === this.#generation);
      await this.#showResult(() => generation === this.#generation);
    } catch (problem) {
      this.mapView.remove("result");
      this.#shown.result = "";
      this.#shown.key = "";
      announce(problem);
    }
    this.#describe();
  }

  async #showImagery(source, isCurrent) {
    if (this.#shown.imagery === source.id) return;
    const tileJson = await getJson(sourceTileJson(source.id));
    if (!isCurrent()) return;
    this.#shown.imagery = source.id;
    this.#tileJson.imagery = tileJson;
    this.traffic.forget("imagery");
    this.mapView.showImagery(this.traffic.template("imagery", sourceTiles(source.id)), tileJson, this.store.state.imagery);
  }

  async #showResult(isCurrent) {
    const { state } = this.store;
    const selection = this.#selection;
    const wanted = tilesOf(selection, state);
    const shown = showsNothing(selection.task, state) && wanted.kind === "raster" ? "nothing" : `${wanted.kind} ${wanted.tiles}`;
    if (this.#shown.result === shown) return;
    // Remove the last task's tiles at once, so that nobody takes them for the new ones.
    const isOtherTask = this.#shown.key !== `${keyOf(selection)} ${selection.source.id}`;
    if (isOtherTask) this.mapView.remove("result");
    const tileJson = isOtherTask ? await getJson(wanted.tileJson) : this.#tileJson.result;
    if (!isCurrent()) return;
    this.#shown.result = shown;
    this.#shown.key = `${keyOf(selection)} ${selection.source.id}`;
    this.#tileJson.result = tileJson;
    this.traffic.forget("result");
    this.#footprints?.stop();
    this.#footprints = null;
    const template = this.traffic.template("result", wanted.tiles);
    const { task } = selection;
    if (shown === "nothing") this.mapView.remove("result");
    else if (wanted.kind === "raster") this.mapView.showMask(template, tileJson, state.opacity);
    else if (wanted.kind === "vector") this.mapView.showFeatureTiles(template, tileJson, task, keyOf(selection), state);
    else this.#showFootprints(wanted.tiles, tileJson);
  }

  #showFootprints(template, tileJson) {
    const { task } = this.#selection;
    const key = keyOf(this.#selection);
    const show = (data) => this.mapView.showGeoJson("result", "result", data, task, key, this.store.state);
    this.#footprints = new Footprints(this.traffic, template, tileJson, show);
    this.#moved();
  }

  /** Asks for everything again, after failures. */
  #showAgain() {
    this.#shown = { imagery: "", result: "" };
    this.traffic.forget("imagery");
    this.#draw();
  }

  #moved() {
    const { map, view } = this.mapView;
    this.store.set({ view });
    this.#rememberUrl();
    const bounds = map.getBounds().toArray().flat();
    this.#footprints?.update(map.getZoom(), bounds);
    this.#describe();
  }

  /** The commands and the hint that depend on the view. */
  #describe() {
    const tileJson = this.#tileJson.result;
    if (!tileJson || !this.#selection.task || !this.#selection.source) return;
    drawShare(this.#selection, tileJson, this.mapView.view, this.store.state);
    showHint(this.#hint(tileJson));
  }

  #hint(tileJson) {
    const { map } = this.mapView;
    const seen = map.getBounds();
    const isInView = ([w, s, e, n]) => seen.getWest() <= e && seen.getEast() >= w && seen.getSouth() <= n && seen.getNorth() >= s;
    if (this.files.places.some(isInView)) return null;
    if (!isInView(tileJson.bounds ?? [-180, -90, 180, 90]))
      return { text: "The imagery is somewhere else.", label: "Go there", action: () => this.#goToSource() };
    const first = this.#firstZoom(tileJson);
    if (map.getZoom() < first - 0.01)
      return { text: "Too far out for this model.", label: "Zoom in", action: () => map.easeTo({ zoom: first }) };
    const { model, source } = this.#selection;
    if (scaleRatio(model, source) > TOLERATED_SCALE_RATIO) {
      const sizes = `This imagery has pixels of ${metres(source.resolution_m)}, the model was trained on ${metres(model.native_gsd_m)}`;
      return { text: `${sizes}: expect little of the result.` };
    }
    return null;
  }

  /** The map zoom from which there are results. The map counts zooms for 512 px tiles; image tiles have 256 px, and zooms one higher. */
  #firstZoom({ minzoom }) {
    return minzoom - (tilesOf(this.#selection, this.store.state).kind === "raster" ? 1 : 0);
  }

  /** The map zoom at which objects are about as large as in training. Masks are useful at any zoom. */
  #clearZoom(tileJson) {
    const isVector = tilesOf(this.#selection, this.store.state).kind !== "raster";
    return isVector ? Math.max(this.#firstZoom(tileJson), tileJson.maxzoom - 1) : this.#firstZoom(tileJson);
  }

  #goToSource(animate = true) {
    const { bounds, center } = this.#tileJson.imagery ?? {};
    if (!bounds) return;
    const minZoom = this.#tileJson.result ? this.#clearZoom(this.#tileJson.result) : 0;
    if (bounds[2] - bounds[0] < WORLD_WIDTH_DEG) {
      this.mapView.fitTo(bounds, { animate, minZoom });
      return;
    }
    // Imagery across the antimeridian has the bounds of the world, but not its centre. The map's zooms are for tiles twice as wide.
    const [centerLon, centerLat, fitting] = center ?? [0, 0, 0];
    const view = { lon: centerLon, lat: centerLat, zoom: Math.max(fitting - 1, minZoom) };
    const { zoom, lat, lon } = centerLon === 0 ? WORLD_VIEW : view;
    this.mapView.map.flyTo({ center: [lon, lat], zoom, animate, duration: animate ? 1600 : 0 });
  }

  /** Writes everything that is shown into the URL, defaults included. */
  #rememberUrl = debounced(() => {
    const { model, task, source } = this.#selection;
    const stated = { ...this.store.state, model: model.id, task: task?.name, source: source?.id };
    history.replaceState(null, "", writeFragment(stated));
  }, 150);
}

function listenToPanel() {
  const toggle = byId("panel-toggle");
  toggle.addEventListener("click", () => {
    const isOpen = document.body.classList.toggle("panel-closed") === false;
    toggle.setAttribute("aria-expanded", String(isOpen));
  });
}

/** Nothing works without the catalogue: say so, and offer to try again. */
function failToStart(error) {
  byId("fatal-text").textContent = error.message;
  byId("key-field").hidden = error.status !== 401;
  byId("fatal-form").onsubmit = (event) => {
    event.preventDefault();
    if (byId("key").value) apiKey.set(byId("key").value);
    location.reload();
  };
  byId("fatal").hidden = false;
  document.body.classList.remove("starting");
}

listenToPanel();
try {
  const viewer = new Viewer();
  // For the browser's console, and for tests that need the screen position of a feature.
  globalThis.viewer = viewer;
  await viewer.start();
} catch (error) {
  failToStart(error);
}
