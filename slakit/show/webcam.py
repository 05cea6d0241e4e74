"""A webcam recorder for notebooks in plain HTML and JavaScript; the recording arrives through a FileUpload widget.

Works where the browser lets a page use the camera (https:// and localhost) and runs the script of an output
(JupyterLab, Notebook 7, Colab); elsewhere it says in a sentence what to do instead.
"""

from __future__ import annotations

from string import Template

LONGEST = 30  # seconds; at a megabit a second less than 4 MB, below the 10 MB that Jupyter's connection carries

_PAGE = Template("""
<div class="slakit-camera" style="margin: 4px 0">
  <button type="button" class="slakit-camera-start">Start the camera</button>
  <button type="button" class="slakit-camera-record" disabled>Record</button>
  <span role="status" class="slakit-camera-said">The recording stays on this computer and in this notebook's kernel.
  If the buttons do nothing, run this cell again.</span>
  <a class="slakit-camera-save" style="display: none" download="webcam.webm">Save the recording</a>
  <video muted playsinline style="display: none; width: 240px; margin-top: 4px"></video>
</div>
<script>
(() => {
  for (const box of document.querySelectorAll(".slakit-camera:not([data-ready])")) {
    box.dataset.ready = "yes";
    const part = name => box.querySelector(".slakit-camera-" + name);
    const [start, record, said, save] = ["start", "record", "said", "save"].map(part);
    const video = box.querySelector("video");
    const other = " Record with any other program and upload the file instead.";
    let recorder = null;
    said.textContent = "The recording stays on this computer and in this notebook's kernel.";
    if (!navigator.mediaDevices || !navigator.mediaDevices.getUserMedia || !window.MediaRecorder) {
      start.disabled = true;
      said.textContent = "This page may not use a camera: browsers allow it on https:// and localhost only." + other;
      continue;
    }
    const arrived = blob => {
      save.href = URL.createObjectURL(blob);
      save.download = blob.type.includes("mp4") ? "webcam.mp4" : "webcam.webm";
      save.style.display = "inline";
      const buttons = document.querySelectorAll("button.$upload");
      if (!buttons.length) {
        said.textContent = "Recorded. No upload button was found on this page: save the recording and upload it.";
        return;
      }
      const transfer = new DataTransfer();
      transfer.items.add(new File([blob], save.download, {type: blob.type}));
      // The upload button makes its file input when it is pressed; hand that input our file, not a file dialogue.
      const click = HTMLInputElement.prototype.click;
      HTMLInputElement.prototype.click = function () {
        if (this.type !== "file") return click.call(this);
        this.files = transfer.files;
        this.dispatchEvent(new Event("change"));
      };
      try { buttons[buttons.length - 1].click(); } finally { HTMLInputElement.prototype.click = click; }
      said.textContent = "Recorded and handed over.";
    };
    start.onclick = async () => {
      try {
        const wanted = {video: {width: {ideal: 320}, height: {ideal: 240}, frameRate: {ideal: 25}}, audio: false};
        video.srcObject = await navigator.mediaDevices.getUserMedia(wanted);
        video.style.display = "block";
        await video.play();
        record.disabled = false;
        said.textContent = "The camera is on. Stand so that head and hands are in the picture.";
      } catch (error) {
        said.textContent = "The camera cannot be used (" + error.name + ": " + error.message + ")." + other;
      }
    };
    record.onclick = () => {
      if (recorder) { recorder.stop(); return; }
      const types = ["video/webm;codecs=vp8", "video/webm", "video/mp4"];
      const mimeType = types.find(type => MediaRecorder.isTypeSupported(type));
      const pieces = [];
      recorder = new MediaRecorder(video.srcObject, {mimeType, videoBitsPerSecond: 1000000});
      recorder.ondataavailable = event => pieces.push(event.data);
      recorder.onstop = () => {
        recorder = null;
        record.textContent = "Record";
        arrived(new Blob(pieces, {type: mimeType}));
      };
      recorder.start();
      record.textContent = "Stop";
      said.textContent = "Recording, $longest seconds at most …";
      const mine = recorder;
      setTimeout(() => { if (recorder === mine) mine.stop(); }, $longest * 1000);
    };
  }
})();
</script>
""")


def recorder_html(upload_class: str) -> str:
    """The recorder as HTML for IPython.display.HTML; upload_class: CSS class of the FileUpload button that takes it.

    Show it in the cell that shows the button: Colab gives every cell's output a page of its own.
    """
    return _PAGE.substitute(upload=upload_class, longest=LONGEST)
