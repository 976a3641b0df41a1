const NODE_MIN = [20, 19];

/** Throws with what to do when this Node is older than what `package.json` asks for. */
export function checkNodeVersion(version = process.versions.node) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1])) return;
  throw new Error(`Lambda Fleet needs Node.js ${NODE_MIN.join('.')} or newer; this is ${version}.`);
}
