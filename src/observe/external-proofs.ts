import type { Logger } from 'pino'
import { toFailure } from '../domain/errors.ts'
import type { Proof } from '../domain/proof.ts'
import type { ProofSummary } from './catalog.ts'
import { createIntern, summarizeProof } from './summaries.ts'

/** Where proofs of files of other tools are kept; the history has it. */
export interface ExternalProofStore {
  externalProofs(): ReadonlyMap<string, readonly string[]>
}

/** The proofs of files of other tools. The same object comes out until one is added. */
export function createExternalProofs(
  store: ExternalProofStore,
  log: Logger,
): () => ReadonlyMap<string, readonly ProofSummary[]> {
  const intern = createIntern()
  let known = ''
  let summaries: ReadonlyMap<string, readonly ProofSummary[]> = new Map()
  return () => {
    const found = store.externalProofs()
    const signature = JSON.stringify([...found].map(([id, proofs]) => [id, proofs.length, proofs[0]]))
    if (signature !== known) {
      known = signature
      summaries = new Map([...found].map(([id, proofs]) => [id, proofs.flatMap((text) => summarize(text))]))
    }
    return summaries
  }

  function summarize(text: string): readonly ProofSummary[] {
    try {
      return [summarizeProof(JSON.parse(text) as Proof, intern)]
    } catch (error) {
      log.warn(toFailure(error), 'a proof of a file of another tool cannot be read: it proves nothing')
      return []
    }
  }
}
