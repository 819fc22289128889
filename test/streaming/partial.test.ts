import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { firstLsn, segmentName } from '../../src/domain/wal.ts'
import { readPartial } from '../../src/streaming/partial.ts'
import { ReceivingDirectory } from '../../src/streaming/receiving-directory.ts'
import { scratchDirectory } from '../support/scratch.ts'

const segmentSize = 1024 * 1024

t.test('a segment that was finished is not gone, though the receiver has not told of it yet', async (t) => {
  const archive = await scratchDirectory(t)
  const directory = new ReceivingDirectory(archive)
  await mkdir(directory.path)
  const position = firstLsn(5, segmentSize) + 96n
  const stretches = [
    { timeline: 1, begin: 0n, end: firstLsn(4, segmentSize) },
    { timeline: 2, begin: firstLsn(4, segmentSize), end: null },
  ]
  const read = () =>
    readPartial({ directory, systemIdentifier: '7500000000000000001', segmentSize, stretches, position })
  t.equal(await read(), 'gone')
  await writeFile(join(archive, segmentName(2, 6, segmentSize)), '')
  t.equal(await read(), 'gone', 'another one')
  await writeFile(join(archive, segmentName(2, 5, segmentSize)), '')
  t.equal(await read(), null)
})
