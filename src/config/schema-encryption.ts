import { Type } from 'typebox'
import { section, text } from './schema-keys.ts'

/** The key `encryption`. */
export const encryption = section(
  {
    recipients: Type.Array(
      text({
        kind: 'recipient',
        description: 'Public key, age1… or that of an SSH key (ssh-ed25519 or ssh-rsa).',
        example: 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p',
      }),
      {
        description:
          'Public keys. What is stored from now on can be read by the owner of each of them, and by nobody else. None, and no recipientsFile: nothing is encrypted.',
        default: [],
      },
    ),
    recipientsFile: Type.Optional(
      text({
        kind: 'path',
        description:
          'File with further public keys, one a line; # begins a comment. Read at each use. Nobody but its owner may be able to write to it.',
        absent: 'recipients has all of them',
        example: '/etc/lifeboat/recipients.txt',
      }),
    ),
    identityFile: Type.Optional(
      text({
        kind: 'path',
        description:
          'File with the private key, or with several, old ones too: what age-keygen writes, or an SSH key, without a passphrase. Used by verification and restore alone; backups need none. Its mode is 0600, or 0640 when root owns it.',
        absent: 'encrypted backups are neither restored here nor verified beyond the level artifact',
        example: '/etc/lifeboat/key.txt',
      }),
    ),
  },
  {
    description: 'Encryption before anything leaves this machine, with age, for all repositories (docs/encryption.md).',
  },
)
