import { createHash } from 'node:crypto'
import { cp, open, readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Test } from 'tap'
import type { Manifest } from '../../src/domain/backup.ts'
import { serializeManifest } from '../../src/repository/manifest.ts'
import { scratchDirectory } from './scratch.ts'
import type { Sidecar } from './sidecar.ts'

/** A copy of a sidecar's first repository, to be damaged. Give it to another sidecar. */
export async function copyRepository(t: Test, sidecar: Sidecar): Promise<string> {
  const directory = join(await scratchDirectory(t), 'repository')
  await cp(sidecar.config.repositories[0]?.path ?? '', directory, {
    recursive: true,
    // Else whoever uses the copy would wait for the sidecar that has the original.
    filter: (path) => basename(path) !== 'leases',
  })
  return directory
}

/** The folder of a backup in such a copy. */
export function folderIn(repository: string, { cluster, backupId }: Manifest): string {
  return join(repository, cluster, 'backups', backupId)
}

/** Flips one bit of a file, in the middle unless it is said where. */
export async function flipBit(path: string, place?: number): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const { size } = await file.stat()
    const at = place ?? Math.floor(size / 2)
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, at)
    byte[0] = (byte[0] ?? 0) ^ 1
    await file.write(byte, 0, 1, at)
  } finally {
    await file.close()
  }
}

/** What a careful forger would do: replaces artifacts and makes the manifest fit them. */
export async function forge(
  folder: string,
  manifest: Manifest,
  contents: Readonly<Record<string, Buffer | string>>,
  changes: Partial<Manifest> = {},
): Promise<Manifest> {
  const artifacts = []
  for (const artifact of manifest.artifacts) {
    const given = contents[artifact.name]
    if (given !== undefined) await writeFile(join(folder, artifact.name), given)
    const bytes = await readFile(join(folder, artifact.name))
    const digest = { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
    artifacts.push({ name: artifact.name, plain: digest, stored: digest })
  }
  return writeManifest(folder, { ...manifest, artifacts, ...changes })
}

/** Writes a manifest with the right checksum, whatever else is wrong in it. */
export async function writeManifest(folder: string, manifest: Manifest): Promise<Manifest> {
  const { checksum: _, formatVersion: __, artifacts, ...body } = manifest
  const { text, manifest: written } = serializeManifest(body, artifacts)
  await writeFile(join(folder, 'manifest.json'), text)
  return written
}
