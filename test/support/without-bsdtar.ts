import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import type { Test } from 'tap'
import { openDirectory } from './scratch.ts'

/** Until the end of the test, this machine is one without a bsdtar that will do: zstd and GNU tar do its work. */
export async function withoutBsdtar(t: Test): Promise<void> {
  const directory = await openDirectory(t)
  await writeFile(join(directory, 'bsdtar'), '#!/bin/sh\necho bsdtar without zstd\n', { mode: 0o755 })
  const { PATH = '' } = process.env
  process.env.PATH = `${directory}:${PATH}`
  t.teardown(() => {
    process.env.PATH = PATH
  })
}
