import { parseBackupId } from '../domain/backup.ts'
import { LifeboatError } from '../domain/errors.ts'
import type { Proof } from '../domain/proof.ts'
import type { ObjectInfo } from '../storage/storage.ts'
import { type Place, readWhole, type Stoppable } from './backup-folder.ts'
import { proofBackupId, proofKey, proofsPrefix } from './layout.ts'
import { type ProofBody, parseProof, serializeProof } from './proof.ts'

/** A proof with a thousand checks has some 200 KiB. */
const maxProofBytes = 16 * 1024 * 1024

/** Seconds that a name may be moved on when proofs of one backup end at the same time. */
const maxShiftSeconds = 3600

const dayMs = 24 * 3600 * 1000

export interface ProofEntry {
  readonly key: string
  readonly backupId: string
  readonly info: ObjectInfo
}

/** See `Repository.publishProof`. */
export async function publishProof({ storage, cluster }: Place, body: ProofBody): Promise<Proof> {
  const { text, proof } = serializeProof(body)
  const finished = new Date(proof.finishedAt).getTime()
  for (let shift = 0; ; shift++) {
    const key = proofKey(cluster, new Date(finished + shift * 1000), proof.backupId)
    try {
      await storage.put(key, Buffer.from(text), { ifAbsent: true })
      return proof
    } catch (error) {
      if (!(error instanceof LifeboatError && error.code === 'object-exists') || shift >= maxShiftSeconds) throw error
    }
  }
}

/** See `Repository.listProofs`. */
export async function* listProofs(
  { storage, cluster }: Place,
  options: Stoppable & { readonly startAfter?: string } = {},
): AsyncGenerator<ProofEntry> {
  // Folded, so that folders of somebody else below are not walked through.
  for await (const item of storage.list(proofsPrefix(cluster), { ...options, delimiter: '/' })) {
    if (!('key' in item)) continue
    const backupId = proofBackupId(cluster, item.key)
    if (backupId !== null) yield { key: item.key, backupId, info: item }
  }
}

/** See `Repository.readProof`. */
export async function readProof({ storage, cluster }: Place, key: string, options: Stoppable = {}): Promise<Proof> {
  const backupId = proofBackupId(cluster, key)
  if (backupId === null) throw new LifeboatError('usage-invalid', `${JSON.stringify(key)} is not the key of a proof`)
  const { bytes } = await readWhole(storage, key, maxProofBytes, options)
  if (bytes === null) {
    throw new LifeboatError('proof-invalid', `the proof ${key} is not valid: it has over ${maxProofBytes} bytes`)
  }
  return parseProof(bytes, { backupId, key })
}

/** See `Repository.latestProof`. */
export async function latestProof(place: Place, backupId: string, options: Stoppable = {}): Promise<Proof | null> {
  const made = parseBackupId(backupId)
  if (made === null) throw new LifeboatError('usage-invalid', `${JSON.stringify(backupId)} is not a backup id`)
  // No proof is older than its backup, but for clocks that were set right between the two.
  const startAfter = proofKey(place.cluster, new Date(made.at.getTime() - dayMs), backupId)
  let newest: string | null = null
  for await (const entry of listProofs(place, { ...options, startAfter })) {
    if (entry.backupId === backupId) newest = entry.key
  }
  return newest === null ? null : readProof(place, newest, options)
}
