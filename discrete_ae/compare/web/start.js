"use strict";

/* Before anything is drawn: set the chosen colors, and hide the report from a blind listener. */
{
  const root = document.documentElement;
  root.classList.toggle("blind", location.hash.startsWith("#blind"));
  try {
    root.dataset.theme = localStorage.getItem("discrete-ae-theme") ?? "";
  } catch {} // a browser may refuse storage to a page from disk
}
