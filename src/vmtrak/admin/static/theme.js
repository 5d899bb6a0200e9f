// Runs in <head> before the first paint, hence a classic script: a module would wait for the
// document and let the wrong theme flash up. The function keeps its names to itself.
(function () {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const theme = localStorage.getItem("vmtrak.theme");
    if (theme === "light" || theme === "dark") {
      root.dataset.theme = theme;
    }
  } catch {
    // Storage can be forbidden; the system's setting applies then.
  }
})();
