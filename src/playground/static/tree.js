// The branches that were written: a tree of tokens below the text. In the address: 12(45,67(89)).

export class Node {
  constructor(id, parent = null) {
    Object.assign(this, { id, parent, children: [], piece: null, rank: null, log_p: null });
  }

  child(id) {
    let found = this.children.find((each) => each.id === id);
    if (!found) this.children.push((found = new Node(id, this)));
    return found;
  }

  // The nodes from the first token to this one.
  path() {
    const nodes = [];
    for (let node = this; node.parent; node = node.parent) nodes.unshift(node);
    return nodes;
  }

  all() {
    return this.children.flatMap((each) => [each, ...each.all()]);
  }

  toString() {
    return this.children.map((each) => `${each.id}${each.children.length ? `(${each})` : ""}`).join(",");
  }
}

// The root of the tree that `text` describes; what cannot be read is left out.
export function parseTree(text) {
  const root = new Node(null);
  let node = root, last = root;
  for (const part of text.match(/\d+|[(),]/g) ?? []) {
    if (part === "(") node = last;
    else if (part === ")") { last = node; node = node.parent ?? root; }
    else if (part !== ",") last = node.child(Number(part));
  }
  return root;
}

// The node at the end of `path`, "12.67", as far as it exists.
export function nodeAt(root, path) {
  let node = root;
  for (const id of path.split(".").filter(Boolean)) {
    const next = node.children.find((each) => each.id === Number(id));
    if (!next) break;
    node = next;
  }
  return node;
}
