/** What is changed step by step, so that steps can be taken back and repeated. Nothing here touches the page. */

/** Steps that can be taken back. */
const MOST_STEPS = 200;

/** A value that is replaced as a whole at each step. */
export class Steps {
  #past = [];
  #future = [];

  /** `now` is what there is at first. */
  constructor(now) {
    this.now = now;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** Goes on to another value. */
  take(next) {
    this.#past = [...this.#past, this.now].slice(-MOST_STEPS);
    this.#future = [];
    this.now = next;
  }

  /** Takes back the last step; false if there is none. */
  undo() {
    if (!this.canUndo) return false;
    this.#future.push(this.now);
    this.now = this.#past.pop();
    return true;
  }

  /** Repeats the last step that was taken back; false if there is none. */
  redo() {
    if (!this.canRedo) return false;
    this.#past.push(this.now);
    this.now = this.#future.pop();
    return true;
  }
}
