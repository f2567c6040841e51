// Numbers, durations and moments for people.

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  if (value < 0.00995) return `${(value * 1e3).toFixed(1)} ms`;
  if (value < 0.0995) return `${Math.round(value * 1e3)} ms`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  return value < 7200 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

export function limit(value) {
  return value === null ? "∞" : number(value);
}

export function clock(at, withSeconds = true) {
  const date = new Date(at * 1e3);
  const two = (part) => String(part).padStart(2, "0");
  const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return withSeconds ? `${minutes}:${two(date.getSeconds())}` : minutes;
}

export function ago(at, now) {
  const age = Math.max(0, now - at);
  if (age < 1.5) return "just now";
  return age < 10 ? `${Math.round(age)} s ago` : `${seconds(age)} ago`;
}

export function plural(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
}

export function place(method, route) {
  return method === "(none)" ? "outside a request" : `${method} ${route}`;
}
