/** Takes some tenths of a second to import, so only a process that issues something or asks for it pays. */
export async function loadX509(): Promise<typeof import('@peculiar/x509')> {
  await import('reflect-metadata');
  return await import('@peculiar/x509');
}
