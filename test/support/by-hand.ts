import { serverOsUser } from '../../src/postgres/os-user.ts'
import { runProgram } from '../../src/postgres/programs.ts'

/** Unpacks a base backup by standard tools alone, as a person would. `root` is the directory of the repository and its cluster. */
export async function unpackByHand(root: string, id: string, data: string): Promise<void> {
  const script = `mkdir -m 700 "$3" && zstd -q -dc "$1/backups/$2/base.tar.zst" | tar -x -C "$3"`
  await runProgram({ program: 'sh', args: ['-c', script, 'sh', root, id, data] })
  await giveToServer(data)
}

/**
 * Brings all WAL back, by its own names: whole segments, histories, and what was received of a segment that is not whole,
 * filled with zeros.
 */
export async function walByHand(root: string, wal: string, segmentBytes = 1024 * 1024): Promise<void> {
  const script = `set -e
mkdir "$2"
cd "$1/wal"
find . -name '*.history' -exec cp {} "$2/" \\;
find . -name '*.zst' | while read -r file; do
  name=\${file##*/}; zstd -q -d "$file" -o "$2/\${name%-????????????.zst}"
done
cd "$2"
for file in *.partial.*; do # the longest comes last
  [ ! -e "$file" ] || [ -e "\${file%%.*}" ] || mv "$file" "\${file%%.*}.longest"
done
for file in *.longest; do
  [ ! -e "$file" ] || { truncate -s "$3" "$file" && mv "$file" "\${file%.longest}"; }
done`
  await runProgram({ program: 'sh', args: ['-c', script, 'sh', root, wal, String(segmentBytes)] })
  await giveToServer(wal)
}

async function giveToServer(directory: string): Promise<void> {
  const user = await serverOsUser('postgres')
  if (user !== null) await runProgram({ program: 'chown', args: ['-R', `${user.uid}:${user.gid}`, directory] })
}
