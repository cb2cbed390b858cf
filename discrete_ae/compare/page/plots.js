"use strict";

/* Buttons of attribute `data-enlarge` show the plot of this id in a dialog, as large as its text is easy to read. The
   plot itself goes there and comes back, so that its ids stay unique. */
{
  const dialog = document.querySelector("dialog.large");
  const stage = dialog?.querySelector(".stage");
  let place = null;

  for (const button of document.querySelectorAll("[data-enlarge]")) {
    const plot = document.getElementById(button.dataset.enlarge);
    button.addEventListener("click", () => {
      place = plot.parentElement;
      place.style.height = `${place.offsetHeight}px`; // so that the page stays where it is
      dialog.querySelector("h2").textContent = document.getElementById(`${plot.id}-title`).textContent;
      stage.append(plot);
      dialog.showModal();
      stage.scrollTo(0, 0);
      stage.focus(); // arrows scroll at once
    });
    button.hidden = false;
  }

  const close = () => dialog.close();
  dialog?.querySelector("[data-close]").addEventListener("click", close);
  dialog?.addEventListener("click", (event) => event.target === dialog && close()); // beside it
  dialog?.addEventListener("close", () => {
    place.append(...stage.children);
    place.style.height = "";
  });
}
