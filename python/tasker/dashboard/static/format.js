// Figures as texts.

export const NONE = "–";

// Three digits are as much as the figures are worth.
function digits(number) {
  const rounded = number >= 100 ? Math.round(number) : Number(number.toPrecision(3));
  return rounded.toLocaleString("en");
}

export function count(number) {
  return number.toLocaleString("en");
}

export function rate(number) {
  return number === 0 ? "0" : digits(number);
}

export function share(number) {
  if (number === null) return NONE;
  return `${number > 0 && number < 0.1 ? (number * 100).toFixed(1) : Math.round(number * 100)} %`;
}

export function seconds(number) {
  if (number === null || number === undefined) return NONE;
  if (number === 0) return "0 s";
  if (number < 1e-6) return `${digits(number * 1e9)} ns`;
  if (number < 0.001) return `${digits(number * 1e6)} µs`;
  if (number < 1) return `${digits(number * 1000)} ms`;
  if (number < 120) return `${digits(number)} s`;
  if (number < 7200) return `${Math.round(number / 60)} min`;
  if (number < 172800) return `${Math.round(number / 3600)} h`;
  return `${Math.round(number / 86400)} d`;
}
