/** The status line: tiles that are loading, the last answer's timing, failures with a retry, and hints about the view. */

import { timingText } from "./api.js";
import { byId, el, icon } from "./dom.js";

/** How long a message is shown, in milliseconds: long enough to read two sentences. */
const MESSAGE_MS = 12_000;

/** Shows a problem over the map until it is dismissed or its time is over. */
export function announce(problem) {
  const text = `${problem.title ? `${problem.title}: ` : ""}${problem.message}`;
  const list = byId("messages");
  if ([...list.children].some((message) => message.dataset.text === text)) return;
  const message = el("div", { className: "message" }, icon("warning"), el("p", {}, text));
  message.dataset.text = text;
  message.append(el("button", { type: "button", className: "bare", ariaLabel: "Dismiss", onclick: () => message.remove() }, icon("close")));
  list.append(message);
  setTimeout(() => message.remove(), MESSAGE_MS);
}

/** Updates the status line as tiles load; `retry` requests all of them again. */
export function followTraffic(traffic, retry) {
  byId("retry").addEventListener("click", retry);
  let scheduled = false;
  const draw = () => {
    scheduled = false;
    const { count, problem } = traffic.failed;
    document.body.classList.toggle("busy", traffic.pending > 0);
    byId("activity").textContent = traffic.waitingFor
      ? `Waiting: ${traffic.waitingFor}`
      : traffic.pending > 0
        ? `Loading ${traffic.pending} tile${traffic.pending === 1 ? "" : "s"}`
        : "Ready";
    byId("timing").textContent = traffic.timing.length > 0 ? `Last tile: ${timingText(traffic.timing)}` : "";
    byId("failures").hidden = count === 0;
    if (count > 0) byId("failures-text").textContent = `${count} tile${count === 1 ? "" : "s"} failed: ${problem.message}`;
  };
  traffic.addEventListener("change", () => {
    if (!scheduled) requestAnimationFrame(draw);
    scheduled = true;
  });
  draw();
}

/** Explains why nothing of use may be visible, with a button if one helps; `null` hides the hint. */
export function showHint(hint) {
  byId("hint").hidden = !hint;
  if (!hint) return;
  byId("hint-text").textContent = hint.text;
  byId("hint-action").hidden = !hint.action;
  byId("hint-action").textContent = hint.label ?? "";
  byId("hint-action").onclick = hint.action ?? null;
}
