// Making and updating elements. Text only ever goes in as text, so nothing that an app says can become markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

// Touches the document only where something changed: selections, focus and screen readers are left in peace.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Text with `code` in backticks, as the catalogue writes it.
export function setProse(element, text) {
  if (element.textContent === text.replaceAll("`", "")) return;
  element.replaceChildren(...text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part)));
}

export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

const rows = new WeakMap();

// One child for each item: new ones made, gone ones removed, those that stay updated in place.
export function keyed(parent, items, keyOf, make, update) {
  const known = rows.get(parent) ?? new Map();
  const now = new Map();
  items.forEach((item, index) => {
    const key = keyOf(item, index);
    now.set(key, known.get(key) ?? make(item));
  });
  for (const [key, element] of known) if (!now.has(key)) element.remove();
  let place = 0;
  items.forEach((item, index) => {
    const element = now.get(keyOf(item, index));
    if (parent.children[place] !== element) parent.insertBefore(element, parent.children[place] ?? null);
    place += 1;
    update(element, item);
  });
  rows.set(parent, now);
}

// A custom property of the style sheet as the colour it stands for in the present theme.
const probe = h("span", { hidden: true });
export function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}
