// Blocking on purpose: the theme is set before the first paint, so that a dark page never flashes white.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const apply = () => {
    const theme = kept() || (system.matches ? "dark" : "light");
    root.dataset.theme = theme;
    root.classList.toggle("dark", theme === "dark"); // Basecoat's switch
  };
  apply();
  system.addEventListener("change", apply);
  addEventListener("storage", apply); // the other tabs follow
  addEventListener("signalbox:theme", apply);
})();
