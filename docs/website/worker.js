// The search runs in a Worker, which browsers do not start for pages that were opened as files.
// There, this stands in its place: a frame that runs the same script.
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.loaded = new Promise(resolve => { this.frame.onload = resolve })
      const script = document.createElement("script")
      script.src = new URL(url, document.baseURI)
      this.frame.srcdoc =
        "<!doctype html><script>self.postMessage = data => self.parent.dispatchEvent(" +
        "new CustomEvent('from-worker', {detail: {data, from: self}}))</" + "script>" +
        script.outerHTML
      window.addEventListener("from-worker", event => {
        if (event.detail.from === this.frame.contentWindow)
          this.receive(event.detail.data)
      })
      document.body.appendChild(this.frame)
    }

    receive(data) {
      const event = new MessageEvent("message", {data})
      this.dispatchEvent(event)
      this.onmessage?.(event)
    }

    postMessage(data) {
      this.loaded.then(() =>
        this.frame.contentWindow.dispatchEvent(new MessageEvent("message", {data})))
    }

    terminate() {
      this.frame.remove()
    }
  }
}
