// Small helpers for elements, times and numbers.

/** Return the element of an id. */
export const byId = (id) => document.getElementById(id);

/**
 * Make an element. `props` are properties, but for `dataset` (an object) and names with a dash, which are attributes.
 * Text is only ever set as text: names and answers are never taken for markup.
 */
export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "dataset") Object.assign(made.dataset, value);
    else if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Format seconds as players do: 75.25 -> "1:15.25", 3661 -> "1:01:01"; hundredths only where there are some. */
export function clock(value) {
  const total = Math.round(Math.abs(value) * 100);
  const [hundredths, whole] = [total % 100, Math.floor(total / 100)];
  const [hours, minutes, seconds] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  const text = hours ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
  return (value < -0.005 ? "-" : "") + text + (hundredths ? `.${two(hundredths)}` : "");
}

/** Return a number and its noun: "1 frame", "2 frames". */
export const counted = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;

/** Show a line in a place for notices, or none: `kind` is "", "bad" or "busy"; `action` [words, function] a button. */
export function notice(place, text, kind = "", action = null) {
  place.replaceChildren();
  if (!text) return;
  const line = el("p", { className: `notice ${kind}` }, el("span", { dir: "auto" }, text));
  if (action) line.append(" ", el("button", { type: "button", onclick: action[1] }, action[0]));
  place.append(line);
}

/** Return the place in a sorted array before which all values are <= value. */
export function after(sorted, value) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}
