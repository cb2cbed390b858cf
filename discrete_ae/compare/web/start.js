"use strict";

/* Before anything is drawn: the colors that were chosen, and whether the report is hidden from a blind listener. */
{
  const root = document.documentElement;
  root.classList.toggle("blind", location.hash.startsWith("#blind"));
  try {
    root.dataset.theme = localStorage.getItem("discrete-ae-theme") ?? "";
  } catch {} // a browser may keep nothing for a page from disk
}
