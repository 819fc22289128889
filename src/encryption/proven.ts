import type { ProgramOptions } from '../postgres/programs.ts'
import { type EncryptionConfig, encryptStage } from './age.ts'
import { filterThrough } from './filter.ts'

/**
 * The stage that encrypts, tried on a few bytes, before anything is begun that would be in vain; null where nothing is
 * encrypted.
 *
 * @throws LifeboatError `config-invalid` for a key that age does not take; `program-missing`
 */
export async function provenStage(config: EncryptionConfig, signal: AbortSignal): Promise<ProgramOptions | null> {
  const stage = await encryptStage(config)
  if (stage !== null)
    await filterThrough(stage, Buffer.from('x'), signal, async (output) => {
      for await (const _ of output);
    })
  return stage
}
