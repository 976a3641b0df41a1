import { FleetError } from '../errors.js';
import { ARCHIVE_ENTRIES_MAX, UNPACKED_BYTES_MAX } from '../limits.js';
import type { ArchiveEntry } from './archive-entry.js';

export interface ArchiveLimits {
  readonly unpackedBytesMax: number;
  readonly entriesMax: number;
}

export const DEFAULT_ARCHIVE_LIMITS: ArchiveLimits = {
  unpackedBytesMax: UNPACKED_BYTES_MAX,
  entriesMax: ARCHIVE_ENTRIES_MAX,
};

/** What an archive format says about an entry, before anything is believed. */
export interface DeclaredEntry {
  readonly name: string;
  readonly kind: 'file' | 'directory' | 'symlink';
  /** Permission bits, 0 where the format has none. */
  readonly mode: number;
  readonly bytes: number;
  readonly target: string;
}

const PATH_BYTES_MAX = 1024;
const COMPONENT_BYTES_MAX = 255;
const SET_ID_BITS = 0o6000;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
const FORBIDDEN_CHARACTERS = /[\u0000-\u001f\u007f\\\ufffd]/;

/** The error for an archive that breaks a rule; `path` names the entry where there is one. */
export function refuseArchive(reason: string, path?: string): FleetError {
  const where = path === undefined ? '' : ` Entry ${JSON.stringify(path.slice(0, 200))}:`;
  return new FleetError('invalid_archive', `The archive cannot be used.${where} ${reason}.`, { path, reason });
}

/**
 * Judges the entries of one archive in order. It knows every path it admitted, so that no entry can replace,
 * shadow or pass through another one.
 *
 * Symlinks may point only to `../` as often as their own folder is deep, followed by plain names. A `..` after a name is
 * refused, because the name may be a link itself and `..` would then leave from where *that* points. No entry may lie
 * beneath a symlink. With both rules a chain of links cannot leave the tree.
 */
export class EntryRules {
  /** Path folded to one case and normal form → the spelling and kind it was first seen with. */
  readonly #seen = new Map<string, { readonly path: string; readonly kind: ArchiveEntry['kind'] }>();
  #entries = 0;
  #unpackedBytes = 0;

  constructor(private readonly limits: ArchiveLimits) {}

  get entries(): number {
    return this.#entries;
  }

  get unpackedBytes(): number {
    return this.#unpackedBytes;
  }

  /** Refuses early when a format announces its number of entries. */
  expectEntries(count: number): void {
    if (count > this.limits.entriesMax) {
      throw new FleetError(
        'archive_too_large',
        `The archive has ${count} entries; at most ${this.limits.entriesMax} are allowed.`,
        { entriesMax: this.limits.entriesMax },
      );
    }
  }

  /** The entry to use, or undefined for the tree's own root (`./`). */
  admit(declared: DeclaredEntry): ArchiveEntry | undefined {
    this.expectEntries(this.#entries + 1);
    this.#entries += 1;
    const path = checkedPath(declared.name, declared.kind);
    if (path === '') {
      if (declared.kind === 'directory') return undefined;
      throw refuseArchive('its name is empty', declared.name);
    }
    if (declared.kind === 'file' && (declared.mode & SET_ID_BITS) !== 0) {
      throw refuseArchive('set-user-ID and set-group-ID bits are not allowed', path);
    }
    if (declared.kind === 'symlink') checkTarget(path, declared.target);
    this.#claim(path, declared.kind);
    if (declared.kind === 'file') this.#addBytes(declared.bytes);
    return {
      path,
      kind: declared.kind,
      executable: declared.kind === 'file' && (declared.mode & 0o111) !== 0,
      bytes: declared.kind === 'file' ? declared.bytes : 0,
      target: declared.kind === 'symlink' ? declared.target : '',
    };
  }

  #claim(path: string, kind: ArchiveEntry['kind']): void {
    for (let slash = path.indexOf('/'); slash !== -1; slash = path.indexOf('/', slash + 1)) {
      const parent = path.slice(0, slash);
      const seen = this.#seen.get(fold(parent));
      if (seen === undefined) this.#seen.set(fold(parent), { path: parent, kind: 'directory' });
      else if (seen.kind !== 'directory') throw refuseArchive(`it lies beneath "${seen.path}", a ${seen.kind}`, path);
      else if (seen.path !== parent) throw refuseArchive(`"${seen.path}" differs from its folder only in case`, path);
    }
    const seen = this.#seen.get(fold(path));
    if (seen === undefined) this.#seen.set(fold(path), { path, kind });
    else if (seen.path !== path) throw refuseArchive(`"${seen.path}" differs from it only in case`, path);
    else if (seen.kind !== 'directory' || kind !== 'directory') throw refuseArchive('the name appears twice', path);
  }

  #addBytes(bytes: number): void {
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw refuseArchive('an entry has an impossible size');
    this.#unpackedBytes += bytes;
    if (this.#unpackedBytes > this.limits.unpackedBytesMax) {
      throw new FleetError(
        'archive_too_large',
        `The archive unpacks to more than ${this.limits.unpackedBytesMax} bytes, which is the most that is allowed.`,
        { unpackedBytesMax: this.limits.unpackedBytesMax },
      );
    }
  }
}

const fold = (path: string): string => path.normalize('NFC').toLowerCase();

function checkedPath(name: string, kind: ArchiveEntry['kind']): string {
  if (FORBIDDEN_CHARACTERS.test(name)) throw refuseArchive('backslashes and control characters are not allowed', name);
  if (name.startsWith('/')) throw refuseArchive('the path is absolute', name);
  let path = name;
  while (path.startsWith('./')) path = path.slice(2);
  if (kind === 'directory') path = path === '.' ? '' : path.replace(/\/$/, '');
  if (path === '') return '';
  if (Buffer.byteLength(path) > PATH_BYTES_MAX)
    throw refuseArchive(`the path is longer than ${PATH_BYTES_MAX} bytes`, name);
  for (const component of path.split('/')) {
    if (component === '..') throw refuseArchive('the path leaves the archive', name);
    if (component === '' || component === '.') throw refuseArchive('the path has an empty component', name);
    if (Buffer.byteLength(component) > COMPONENT_BYTES_MAX) {
      throw refuseArchive(`a name in it is longer than ${COMPONENT_BYTES_MAX} bytes`, name);
    }
  }
  return path;
}

function checkTarget(path: string, target: string): void {
  if (target === '' || Buffer.byteLength(target) > PATH_BYTES_MAX)
    throw refuseArchive('the link has no usable target', path);
  if (FORBIDDEN_CHARACTERS.test(target)) throw refuseArchive("the link's target has forbidden characters", path);
  if (target.startsWith('/')) throw refuseArchive("the link's target is absolute", path);
  const depth = path.split('/').length - 1;
  const components = target.replace(/^\.\//, '').replace(/\/$/, '').split('/');
  const firstName = components.findIndex((component) => component !== '..');
  const ups = firstName === -1 ? components.length : firstName;
  if (ups > depth) throw refuseArchive('the link leaves the archive', path);
  if (components.slice(ups).some((component) => component === '..' || component === '.' || component === '')) {
    throw refuseArchive("the link's target is not in its shortest form", path);
  }
}
