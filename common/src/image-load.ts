const BYTES_PER_MS = 10_000;

/**
 * How long a node may take to fetch and load a container image before its first sandbox boots, milliseconds: what both sides
 * add to their own deadlines.
 */
export function imageLoadMs(image: { readonly layers: readonly { readonly bytes: number }[] } | undefined): number {
  if (image === undefined) return 0;
  const bytes = image.layers.reduce((sum, layer) => sum + layer.bytes, 0);
  return 5_000 + Math.ceil(bytes / BYTES_PER_MS);
}
