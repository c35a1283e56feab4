// Light and dark: as the system has it, until the button is pressed. Print is light.

const themeButton = document.getElementById("theme");

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  themeButton.setAttribute("aria-pressed", String(dark));
  redraw();
}
function redraw() {
  for (const node of document.querySelectorAll("canvas")) node.redraw();
}

const darkSystem = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (darkSystem.matches ? "dark" : "light")) === "dark";
themeButton.setAttribute("aria-pressed", String(isDark()));
themeButton.addEventListener("click", () => setTheme(!isDark()));
darkSystem.addEventListener("change", () => { themeButton.setAttribute("aria-pressed", String(isDark())); redraw(); });
// Canvases keep the colours they were drawn in; print in the light theme.
let beforePrint = null;
addEventListener("beforeprint", () => { beforePrint = isDark(); if (beforePrint) setTheme(false); });
addEventListener("afterprint", () => { if (beforePrint) setTheme(true); });
