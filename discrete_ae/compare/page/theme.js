"use strict";

/* The button that changes between light and dark. Without it the page follows the system. */
{
  const root = document.documentElement;
  const button = document.querySelector("[data-theme-button]");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => {
    button.textContent = isDark() ? "Light colors" : "Dark colors";
  };
  // A browser may refuse to keep anything for a page from disk: then the choice lasts as long as the page is open.
  try {
    const kept = localStorage.getItem("discrete-ae-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch {}
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("discrete-ae-theme", root.dataset.theme);
    } catch {}
    show();
  });
  system.addEventListener("change", show);
  show();
  button.hidden = false;
}
