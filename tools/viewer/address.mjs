// What people give as an address: user/repo[/path][@revision], hf://…, the page of a file on the Hub, or any https address.

const HUB = "https://huggingface.co";
const REPOSITORY = String.raw`([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)`;
const SHORT = new RegExp(`^${REPOSITORY}(?:/([^@]+?))?/?(?:@(.+))?$`);
const PAGE = new RegExp(`^https?://(?:www\\.)?(?:huggingface\\.co|hf\\.co)/${REPOSITORY}(?:/(?:tree|blob|resolve)/(refs/\\w+/[^/]+|[^/]+)(?:/([^?]+?))?)?/?(?:\\?.*)?$`);
const LOCAL = /^http:\/\/(localhost|127\.0\.0\.1)(:\d+)?\//;

// Returns the address to fetch. Of a repository or folder, that is its model.bhk.
export function addressOf(text) {
  const trimmed = text.trim(), short = trimmed.replace(/^hf:\/\//, "");
  const page = PAGE.exec(trimmed);
  if (page) return hub(page[1], page[2] && decodeURIComponent(page[2]), page[3] && decodeURIComponent(page[3]));
  if (/^https:\/\//.test(trimmed) || LOCAL.test(trimmed)) return new URL(trimmed).href;
  const found = SHORT.exec(short);
  if (found === null) throw new Error("give an address such as user/repo/model.bhk or https://example.org/model.bhk");
  return hub(found[1], found[3], found[2]);
}

function hub(repository, revision = "main", path = "") {
  const file = path.endsWith(".bhk") ? path : [path, "model.bhk"].filter(Boolean).join("/");
  return `${HUB}/${repository}/resolve/${encodeURIComponent(revision)}/${file.split("/").map(encodeURIComponent).join("/")}`;
}
