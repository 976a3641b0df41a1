/**
 * Byte strings as the text of a `bytea[]`, for `${byteaArray(…)}::text::bytea[]`: the driver knows no array types here, and
 * bytes in JSON would be encoded, escaped and decoded. Null stands for an element that is absent.
 */
export function byteaArray(buffers: readonly (Buffer | null)[]): string {
  return `{${buffers.map((bytes) => (bytes === null ? 'NULL' : `"\\\\x${bytes.toString('hex')}"`)).join(',')}}`;
}
