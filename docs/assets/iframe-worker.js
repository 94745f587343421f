// The search runs in a worker, and a browser starts none from a folder (file://). There, a hidden frame does its work.
// The theme's worker looks for this name in its parent to find its own files.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inside = frame.contentWindow;
      const load = address => new Promise((done, failed) => {
        const script = this.inside.document.createElement("script");
        Object.assign(script, { src: address, async: false, onload: done, onerror: failed });
        this.inside.document.body.append(script);
      });
      this.inside.importScripts = (...addresses) => Promise.all(addresses.map(load));
      this.inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }));
      this.ready = load(url);
    }
    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data })));
    }
    terminate() {}
  };
  window.Worker = window.IFrameWorker;
}
