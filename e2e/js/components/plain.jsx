// Components without styles.
export default { note: ({ text }) => <p>{text}</p> };
